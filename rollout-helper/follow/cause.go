package follow

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Of an instance's log a failed run reads so many lines, shows so many, and gives so
// many rows of the terminal to a line that names an error.
const (
	mostRead  = 200
	mostShown = 16
	mostRows  = 4
)

// cause picks, from the last lines that an instance logged, those that tell why
// it failed: from the first line that names an error on, with stack traces
// shortened. If that is too much it begins at a later error, and if the last
// error is still too long ago, the middle is left out. Without an error it is
// the end of the log.
func cause(lines []string) []string {
	lines = shorten(lines)
	var errors []int
	before := ""
	for i, line := range lines {
		if beginsError(line, before) {
			errors = append(errors, i)
		}
		before = line
	}
	if len(errors) == 0 {
		return lines[max(0, len(lines)-mostShown):]
	}
	for _, begin := range errors {
		if len(lines)-begin <= mostShown {
			return lines[begin:]
		}
	}
	lines = lines[errors[len(errors)-1]:]
	head := mostShown / 2
	tail := mostShown - head - 1
	left := len(lines) - head - tail
	return slices.Concat(lines[:head], []string{fmt.Sprintf("… %d lines", left)}, lines[len(lines)-tail:])
}

// namesError tells a line that names an error, as the usual runtimes and
// loggers write it, from all others.
func namesError(line string) bool { return errorName.MatchString(line) }

var errorName = regexp.MustCompile(`[A-Z][a-z]+(Error|Exception)\b|\b(ERROR|FATAL|CRITICAL|SEVERE|ALERT|EMERG)\b|^Traceback |^panic: |` +
	`(?i:\b(error|exception|fatal|failed|failure|cannot|can't|could not|unable to|not found|no such|denied|refused|in use|segmentation fault)\b)`)

// beginsError says whether what is told of an error begins with a line; before
// is the one above it.
func beginsError(line, before string) bool {
	if place.MatchString(line) {
		return !strings.HasPrefix(before, " ") && !strings.HasPrefix(before, "Traceback ")
	}
	// What is indented belongs to an error that was named above.
	return namesError(line) && !strings.HasPrefix(line, " ") && !frame.MatchString(line)
}

// place is the line with which Node and Python say where the error is that they
// name below it.
var place = regexp.MustCompile(`^(/|file:)\S+:\d+$|^` + pythonFrame)

// frame is a line of a stack trace of Node or Java, Java, Ruby, PHP.
var frame = regexp.MustCompile(`^\s+at \S|^\s*\.\.\. \d+ more$|^\s+from .+:\d+:in |^#\d+ `)

// pythonFrame begins a frame of Python's traces; its code stands below it.
const pythonFrame = `  File "`

// goroutine begins a goroutine in Go's traces.
var goroutine = regexp.MustCompile(`^goroutine \d+ .*:$`)

// keptLines is how many lines of a trace are kept: those next to the error.
const keptLines = 4

// shorten leaves out blank lines, and of each stack trace the part that is far
// from the error.
func shorten(lines []string) (short []string) {
	for len(lines) > 0 {
		switch n := traceLength(lines); {
		case n == 0:
			if strings.TrimSpace(lines[0]) != "" {
				short = append(short, lines[0])
			}
			lines = lines[1:]
		case strings.HasPrefix(lines[0], pythonFrame):
			// The error stands below the trace.
			trace := withoutMarks(lines[:n])
			left := max(0, len(trace)-keptLines)
			for left > 0 && left < len(trace) && !strings.HasPrefix(trace[left], pythonFrame) {
				left++
			}
			if left > 1 {
				short = append(short, fmt.Sprintf("  … %d lines of the trace", left))
				trace = trace[left:]
			}
			short = append(short, trace...)
			lines = lines[n:]
		default:
			trace := slices.DeleteFunc(slices.Clone(lines[:n]), blank)
			if left := len(trace) - keptLines; left > 1 {
				trace = append(trace[:keptLines], fmt.Sprintf("    … %d lines of the trace", left))
			}
			short = append(short, trace...)
			lines = lines[n:]
		}
	}
	return short
}

func blank(line string) bool { return strings.TrimSpace(line) == "" }

// withoutMarks leaves out the lines with which Python underlines code.
func withoutMarks(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Trim(line, " ^~") == "" })
}

// traceLength is how many of the lines, from the first on, are one stack trace.
func traceLength(lines []string) (n int) {
	part := frame.MatchString
	switch {
	case strings.HasPrefix(lines[0], pythonFrame):
		part = func(line string) bool { return strings.HasPrefix(line, "  ") }
	case goroutine.MatchString(lines[0]):
		part = func(line string) bool {
			return blank(line) || goroutine.MatchString(line) || strings.HasPrefix(line, "\t") ||
				strings.HasPrefix(line, "created by ") || strings.HasSuffix(line, ")")
		}
	}
	for n < len(lines) && part(lines[n]) {
		n++
	}
	return n
}
