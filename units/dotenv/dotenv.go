// Package dotenv reads the text of an .env: from bytes to variables, exactly as
// godotenv v1.5.1 reads them, with the line of each and how it was written. A text
// that systemd could not take is refused as a whole.
package dotenv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/joho/godotenv"

	"app-rollout/units/problem"
)

// MaxText is the most that an .env may hold, in bytes. It also keeps
// godotenv's quadratic and recursive corners harmless.
const MaxText = 64 << 10

// What systemd and the kernel can take of an environment.
const (
	maxVariables  = 1000    // more are quadratic inside PID 1
	maxAssignment = 131071  // NAME=VALUE, MAX_ARG_STRLEN less the NUL
	maxSum        = 1 << 20 // all values and names; exec fails at about 2 MB
)

// trustedDollars is how many $ a text may hold to be parsed in this process:
// with so few, values cannot grow to more than some 360 times the text.
const trustedDollars = 16

// File is a parsed .env.
type File struct {
	Values  map[string]string
	written map[string]Assignment // the last one of each name, which counts
}

// Written is where and how a variable was written. It is the zero value for a
// variable that the file does not have.
func (f *File) Written(name string) Assignment { return f.written[name] }

// Parse reads an .env's text. It refuses a text that systemd could not take as a
// whole, and drops no part of it. Messages hold no value, and a name only if it is
// valid, because what looks like a name may be a piece of a key. The errors are
// *problem.Problems of path, joined.
func Parse(path string, text []byte) (*File, error) {
	refuse := func(line int, why, remedy string) error {
		return &problem.Problem{Path: path, Line: line, Text: why, Remedy: remedy}
	}
	if len(text) > MaxText {
		return nil, TooLarge(path)
	}
	if at := bytes.IndexByte(text, 0); at >= 0 {
		return nil, refuse(lineOf(text, at), "holds a NUL byte", "save the file as plain text in UTF-8")
	}
	if at := invalidUTF8(text); at >= 0 {
		return nil, refuse(lineOf(text, at), "is not UTF-8", "save the file as UTF-8")
	}
	text = withoutBOM(text)

	assignments, bad, why := scan(text)
	if bad != 0 {
		return nil, refuse(bad, why, useQuotes)
	}
	if grown(assignments, 4*maxSum) > 4*maxSum {
		return nil, refuse(0, "has variables that grow too large when they are replaced in one another", quoteDollars)
	}
	values, err := values(text)
	if err != nil {
		p := problem.Of(err)
		return nil, refuse(0, p.Text, p.Remedy)
	}
	f := &File{Values: values, written: make(map[string]Assignment, len(values))}
	for _, a := range assignments {
		_, a.again = f.written[a.name]
		f.written[a.name] = a
	}
	return f, f.check(path)
}

// TooLarge is the problem of a text of more than MaxText bytes.
func TooLarge(path string) *problem.Problem {
	return &problem.Problem{Path: path, Text: fmt.Sprintf("is larger than %d KiB", MaxText>>10), Remedy: "keep large values in files of their own"}
}

// Costly says whether parsing a text may take noticeably long: an attacker can make
// a large one take half a second.
func Costly(text []byte) bool {
	return len(text) > 8<<10 || bytes.Count(text, []byte("$")) > trustedDollars
}

// values parses text with godotenv, in a process of its own if values may grow.
func values(text []byte) (map[string]string, error) {
	if bytes.Count(text, []byte("$")) > trustedDollars {
		return parseApart(text)
	}
	return parseHere(text)
}

// What helps with most of what godotenv cannot read.
const (
	useQuotes    = "use single quotes around a value with spaces, quotes or several lines"
	quoteDollars = "use single quotes around values with a $"
)

var errSyntax = &problem.Problem{Text: "cannot be parsed", Remedy: useQuotes}

// parseHere runs godotenv. It never returns godotenv's error, which quotes the file.
func parseHere(text []byte) (values map[string]string, err error) {
	defer func() {
		if recover() != nil {
			values, err = nil, errSyntax
		}
	}()
	values, err = godotenv.UnmarshalBytes(text)
	if err != nil {
		return nil, errSyntax
	}
	return values, nil
}

// check refuses variables that systemd cannot take.
func (f *File) check(path string) error {
	var all []error
	refuse := func(line int, why, remedy string) {
		all = append(all, &problem.Problem{Path: path, Line: line, Text: why, Remedy: remedy})
	}
	if len(f.Values) > maxVariables {
		refuse(0, fmt.Sprintf("has more than %d variables", maxVariables), "keep the others in a file that the app reads itself")
		return errors.Join(all...)
	}
	sum := 0
	for _, name := range f.Names() {
		value, line := f.Values[name], f.written[name].Line
		sum += len(name) + len(value) + 2
		switch {
		case !ValidName(name):
			refuse(line, "has no valid name before the =", "make it of letters, digits and _, and do not begin it with a digit")
		case reserved(name):
			remedy := "remove it"
			if strings.HasSuffix(name, "_DIRECTORY") {
				remedy = "give yours another name, like APP_" + name
			}
			refuse(line, name+" is set by systemd for the app itself", remedy)
		case strings.ContainsRune(value, 0) || HasNoncharacter(value):
			refuse(line, name+" holds a character that systemd takes for invalid UTF-8", "remove it")
		case len(name)+1+len(value) > maxAssignment:
			refuse(line, fmt.Sprintf("%s is longer than %d bytes", name, maxAssignment), "keep it in a file of its own")
		}
	}
	if sum > maxSum {
		refuse(0, "has variables of more than 1 MiB in all", "keep large values in files of their own")
	}
	return errors.Join(all...)
}

// Names are the variables' names in the order of their lines.
func (f *File) Names() []string {
	names := slices.Collect(maps.Keys(f.Values))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(f.written[a].Line, f.written[b].Line), strings.Compare(a, b))
	})
	return names
}

// ValidName says whether systemd takes name as a variable's name
// (env_name_is_valid, env-util.c).
func ValidName(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}

// reserved says whether systemd itself sets the variable for a service
// (systemd.exec(5), "Environment Variables Set or Propagated"). A variable in the
// file would replace it.
func reserved(name string) bool {
	switch name {
	case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC",
		"INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID", "MANAGERPIDFDID", "SYSTEMD_EXEC_PID",
		"CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY",
		"CONFIGURATION_DIRECTORY", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "FDSTORE",
		"SYSTEMD_INSTANCE": // the unit sets it
		return true
	}
	return false
}

// HasNoncharacter looks for the code points that systemd refuses and Go does
// not (utf8_is_valid, unichar_is_valid in utf8.c).
func HasNoncharacter(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
	})
}

// invalidUTF8 is where text stops being UTF-8, -1 if it does not.
func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func lineOf(text []byte, at int) int { return 1 + bytes.Count(text[:at], []byte("\n")) }
