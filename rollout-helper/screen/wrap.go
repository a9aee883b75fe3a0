package screen

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Say prints a line for a person, as fmt.Println does; its parts may be painted. On a
// terminal that is too narrow for it, it goes on under an indent. Elsewhere it stays one
// line.
func (s *Screen) Say(parts ...string) {
	for text := range strings.SplitSeq(strings.Join(parts, " "), "\n") {
		if !s.TTY {
			s.Println(text)
			continue
		}
		indent := len(text) - len(strings.TrimLeft(text, " "))
		for _, row := range s.wrap(text[indent:], indent, indent+2) {
			s.Println(row)
		}
	}
}

// Rows are the rows of a text that stands beside a margin of so many columns, which each
// row is to be printed behind; elsewhere than on a terminal it is one row.
func (s *Screen) Rows(text string, margin int) []string {
	if !s.TTY {
		return []string{text}
	}
	narrow := *s
	narrow.width -= margin
	return narrow.wrap(text, 0, 2)
}

// room is how many characters a row of a terminal has. The last column stays free, because
// some terminals go on to the next row when it is written to.
func (s *Screen) room() int { return max(1, s.width-1) }

// wrap breaks a text into rows that fit, the first of them behind a margin of first
// columns, the others of rest. No margin takes more than a third of the room.
//
// It breaks where a part of the text ends, if the next part fits into a row of its own, so
// that a command stays whole. Else it breaks between words, and a command gets a backslash
// there, so that what is copied from the screen can be typed. A word that is too long is
// broken anywhere.
func (s *Screen) wrap(text string, first, rest int) []string {
	rest = min(rest, s.room()/3)
	w := wrapper{room: s.room(), rest: rest, at: min(first, s.room()/3)}
	w.row.WriteString(strings.Repeat(" ", w.at))
	for _, part := range parts(text) {
		w.part(part)
	}
	return append(w.rows, strings.TrimRight(w.row.String(), " "))
}

// wrapper is a text that is being wrapped.
type wrapper struct {
	room, rest int
	rows       []string
	row        strings.Builder // the one that is begun
	at         int             // how many columns it has
}

func (w *wrapper) newRow(end string) {
	w.rows = append(w.rows, strings.TrimRight(w.row.String(), " ")+end)
	w.row.Reset()
	w.row.WriteString(strings.Repeat(" ", w.rest))
	w.at = w.rest
}

// fits reports whether the row has room for so many more columns.
func (w *wrapper) fits(columns int) bool { return w.at+columns <= w.room }

// leastTyped is how wide a terminal is at least on which somebody copies commands.
const leastTyped = 20

func (w *wrapper) part(part string) {
	wide := Width(strings.TrimRight(part, " "))
	typed := command.MatchString(part)
	if !w.fits(wide) && w.at > w.rest && (typed || w.rest+wide <= w.room) {
		w.newRow("")
	}
	end := ""
	if typed && !w.fits(wide) && w.room >= leastTyped {
		end = ` \`
	}
	for n, word := range words(part) {
		trimmed := strings.TrimRight(word, " ")
		if !w.fits(Width(trimmed)+len(end)) && w.at > w.rest {
			if n == 0 {
				w.newRow("")
			} else {
				w.newRow(end)
			}
		}
		for !w.fits(Width(trimmed) + len(end)) {
			var head string
			head, word = split(word, max(1, w.room-w.at-len(end)))
			w.row.WriteString(head)
			w.newRow("")
			trimmed = strings.TrimRight(word, " ")
		}
		w.row.WriteString(word)
		w.at += Width(word)
	}
}

// command begins a part that is to be typed.
var command = regexp.MustCompile(`^(app-rollout|systemctl|journalctl|mv|rm|cp|ln|ch(own|mod)|setfacl) `)

// parts are the parts of a line, each with what stands behind it: those that semicolons
// separate, and commands behind a colon.
func parts(text string) (all []string) {
	for len(text) > 0 {
		end := len(text)
		for i := 0; i+1 < len(text); i++ {
			if text[i+1] == ' ' && (text[i] == ';' || text[i] == ':' && command.MatchString(text[i+2:])) {
				end = i + 2
				break
			}
		}
		all, text = append(all, text[:end]), text[end:]
	}
	return all
}

// words are the words of a text, each with the blanks behind it.
func words(text string) (all []string) {
	for len(text) > 0 {
		end := len(text)
		if i := strings.IndexByte(text, ' '); i >= 0 {
			end = i + len(text[i:]) - len(strings.TrimLeft(text[i:], " "))
		}
		all, text = append(all, text[:end]), text[end:]
	}
	return all
}

// split breaks a word behind so many columns. An escape sequence takes none.
func split(word string, columns int) (head, tail string) {
	for i := 0; i < len(word); {
		if escape := paint.FindString(word[i:]); escape != "" {
			i += len(escape)
			continue
		}
		if columns == 0 {
			return word[:i], word[i:]
		}
		_, n := utf8.DecodeRuneInString(word[i:])
		i, columns = i+n, columns-1
	}
	return word, ""
}

var paint = regexp.MustCompile(`^\x1b\[[0-9;]*m`)

var paints = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// Width is how many columns a text takes, which may be painted.
func Width(text string) int { return utf8.RuneCountInString(paints.ReplaceAllString(text, "")) }
