package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where a command prints. Colours, and times as seen from now, are
// for terminals only; everything else stays the same for programs that read.
type screen struct {
	w     io.Writer
	tty   bool
	color bool
	width int
	now   time.Time
}

func newScreen(f *os.File) *screen {
	s := &screen{w: f, width: 80, now: time.Now()}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return s
	}
	s.tty = os.Getenv("TERM") != "dumb"
	// See https://no-color.org.
	s.color = s.tty && os.Getenv("NO_COLOR") == ""
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		s.width = int(size.Col)
	}
	return s
}

// The colours (ECMA-48, SGR).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s *screen) paint(color, text string) string {
	if !s.color || color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (s *screen) println(parts ...any) { fmt.Fprintln(s.w, parts...) }

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

// when is a moment; on a terminal with how long ago it was.
func (s *screen) when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	text := t.Local().Format(time.DateTime)
	if s.tty {
		text += " (" + ago(s.now.Sub(t)) + ")"
	}
	return text
}

// since is a moment in a table: on a terminal only how long ago it was.
func (s *screen) since(t time.Time) string {
	if t.IsZero() || !s.tty {
		return s.when(t)
	}
	return ago(s.now.Sub(t))
}

func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}

// size is a number of bytes for a person.
func size(n uint64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// cell is one field of a table.
type cell struct{ text, color string }

// table prints rows with their columns below each other; the last cell of a row
// may be as long as it likes.
func (s *screen) table(indent string, rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			// Nothing stands beside the end of a row.
			if i < len(row)-1 {
				widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
			}
		}
	}
	for _, row := range rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, c := range row {
			b.WriteString(s.paint(c.color, c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		s.println(strings.TrimRight(b.String(), " "))
	}
}

// cut shortens a line to the terminal's width.
func (s *screen) cut(text string) string {
	if utf8.RuneCountInString(text) < s.width {
		return text
	}
	return string([]rune(text)[:max(0, s.width-2)]) + "…"
}
