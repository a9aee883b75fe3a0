// Package screen prints for a person: in colour and with live lines on a
// terminal, plainly elsewhere.
package screen

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Screen is where a command prints. Only a terminal gets colours, times relative to now,
// and lines that are folded or shortened so that they fit. Everything else is the same for
// programs that read the output.
type Screen struct {
	TTY   bool // a person sees it
	w     io.Writer
	color bool
	width int // in characters
	rows  int // that it has
	now   time.Time
}

// New prints to a file, which may be a terminal.
func New(f *os.File) *Screen {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil || os.Getenv("TERM") == "dumb" {
		return Plain(f)
	}
	s := Terminal(f, 80)
	// See https://no-color.org.
	s.color = os.Getenv("NO_COLOR") == ""
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		s.width = int(size.Col)
		if size.Row > 0 {
			s.rows = int(size.Row)
		}
	}
	return s
}

// Plain prints to a file or a pipe.
func Plain(w io.Writer) *Screen { return &Screen{w: w, width: 80, now: time.Now()} }

// Terminal prints to a terminal of width columns.
func Terminal(w io.Writer, width int) *Screen {
	return &Screen{TTY: true, w: w, color: true, width: width, rows: 24, now: time.Now()}
}

// Most is how many lines there can be at once that are to be drawn anew, with a line below
// them for the cursor.
func (s *Screen) Most() int { return max(1, s.rows-1) }

// Write prints text as it is.
func (s *Screen) Write(text []byte) (int, error) { return s.w.Write(text) }

// The colours (ECMA-48, SGR).
const (
	Bold   = "1"
	Dim    = "2"
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Paint gives a text a colour, if there are colours.
func (s *Screen) Paint(color, text string) string {
	if !s.color || color == "" || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Println prints a line, as fmt.Println does.
func (s *Screen) Println(parts ...any) { fmt.Fprintln(s.w, parts...) }

// Printf prints a text, as fmt.Printf does.
func (s *Screen) Printf(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

// When is a moment, on a terminal with how long ago it was.
func (s *Screen) When(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	text := t.Local().Format(time.DateTime)
	if s.TTY {
		text += " (" + ago(s.now.Sub(t)) + ")"
	}
	return text
}

// Since is a moment in a table. On a terminal it is only how long ago the moment was.
func (s *Screen) Since(t time.Time) string {
	if t.IsZero() || !s.TTY {
		return s.When(t)
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

// Size is a number of bytes for a person.
func Size(n uint64) string {
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

// Cut shortens a line, which is not painted, to the terminal's width.
func (s *Screen) Cut(text string) string {
	return cut(text, s.room())
}

// Fold breaks a text into rows that fit beside a margin of so many columns: at most
// so many of them, and the last is cut.
func (s *Screen) Fold(text string, margin, most int) (rows []string) {
	width := max(1, s.room()-margin)
	left := []rune(text)
	for ; len(left) > width && len(rows) < most-1; left = left[width:] {
		rows = append(rows, string(left[:width]))
	}
	if len(left) > width {
		left = append(left[:width-1:width-1], '…')
	}
	return append(rows, string(left))
}
