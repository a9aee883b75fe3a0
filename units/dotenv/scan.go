package dotenv

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"app-rollout/units/problem"
)

// Assignment is one NAME=value of an .env as godotenv v1.5.1 cuts it.
type Assignment struct {
	Line  int // 1-based
	name  string
	quote byte   // ' or ", 0 if unquoted
	text  string // the value as written, between its quotes or as trimmed
	tail  string // the rest of an unquoted value's line from its comment on
	again bool   // a line above sets the variable too
}

// Expands says whether godotenv replaces variables in the value.
func (a Assignment) Expands() bool {
	text := a.text
	switch a.quote {
	case '\'':
		return false
	case '"':
		text = unescape(text)
	}
	for i := range len(text) {
		if text[i] == '$' && (i == 0 || text[i-1] != '\\') && !strings.HasPrefix(text[i+1:], "(") && reference(text[i+1:]) != "" {
			return true
		}
	}
	return false
}

// NoDefault says what is wrong with a value that HasDefault.
const NoDefault = "has a default for a variable in it, as ${A:-b}, and defaults are not supported"

// HasDefault says whether the value is one of those with which a shell replaces a
// variable that is not set, as ${A:-b}. godotenv keeps everything behind the name.
func (a Assignment) HasDefault() bool { return a.quote != '\'' && withDefault.MatchString(a.text) }

var withDefault = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*:?[-=?+]`)

// refersToItself says whether the variable's own name is replaced in its value, or
// would be without the quotes.
func (a Assignment) refersToItself() bool {
	for rest := a.text; ; {
		_, after, found := strings.Cut(rest, "$")
		if !found {
			return false
		}
		if reference(after) == a.name {
			return true
		}
		rest = after
	}
}

// dollar says what becomes of a $ in the value, and what to do about it; "" if nothing
// surprising does.
func (a Assignment) dollar() (text, remedy string) {
	switch {
	case a.name != "" && !a.again && a.refersToItself():
		text = "has $" + a.name + " in it, which is replaced by nothing: no line above sets it"
		if a.quote == '\'' {
			text = "has $" + a.name + " in it, which is not replaced"
		}
		if a.name == "PATH" {
			return text, "use the directories themselves, as in /opt/shop/bin:/usr/local/bin:/usr/bin:/bin"
		}
		return text, "use the value itself"
	case a.quote == '\'' || !strings.Contains(a.text, "$"):
		return "", ""
	case a.HasDefault():
		return NoDefault, "use the value itself"
	case strings.Contains(a.text, "$("):
		return "has a $( in it, but no command is run, and the $ is lost", "use what the command prints, or single quotes to keep it"
	}
	return "has a $ that may be replaced", "use single quotes to keep it"
}

// Surprises says where godotenv reads the assignment differently from what most
// people mean.
func (a Assignment) Surprises() (all []problem.Problem) {
	add := func(text, remedy string) { all = append(all, problem.Problem{Text: text, Remedy: remedy}) }
	if text, remedy := a.dollar(); text != "" {
		add(text, remedy)
	}
	if a.quote == 0 && strings.HasPrefix(a.text, "#") {
		add("has a value that begins with #, which is no comment there", "use quotes, or leave it empty")
	}
	if a.quote == 0 && a.tail != "" && comment(a.text) < len(a.text) {
		add("has two # on its line, and only the last one begins the comment", "use single quotes")
	} else if a.quote == 0 && len(a.tail) > 1 && !strings.ContainsRune("# \t!-=", rune(a.tail[1])) {
		add("ends before the #, which begins a comment because a blank is before it", "use single quotes to keep it, or put a blank after the #")
	}
	if a.quote == 0 && strings.HasPrefix(a.text, "`") {
		add("keeps its backticks, which are no quotes here", "use single quotes instead")
	}
	if a.quote == '"' && strings.HasSuffix(a.text, `\`) {
		add(`has a \" right before its closing quote, which is lost`, "use single quotes")
	}
	return all
}

// scan cuts an .env into assignments exactly where godotenv v1.5.1 does
// (parser.go), but in linear time and without expanding anything. It is there for
// line numbers, for warnings, and to know beforehand how large the values get. bad
// is the line at which godotenv gives up, 0 if it does not, and why is the reason.
// A fuzz target compares it with godotenv.
func scan(text []byte) (all []Assignment, bad int, why string) {
	src := strings.ReplaceAll(string(text), "\r\n", "\n")
	pos, line, counted, searched := 0, 1, 0, 0
	lineAt := func(at int) int {
		line += strings.Count(src[counted:at], "\n")
		counted = at
		return line
	}
	for {
		pos += len(src[pos:]) - len(strings.TrimLeftFunc(src[pos:], unicode.IsSpace))
		if pos == len(src) {
			return all, 0, ""
		}
		if src[pos] == '#' {
			end := strings.IndexByte(src[pos:], '\n')
			if end < 0 {
				return all, 0, ""
			}
			pos += end
			continue
		}

		st := Assignment{Line: lineAt(pos)}
		if rest, ok := strings.CutPrefix(src[pos:], "export"); ok {
			if after := strings.TrimLeftFunc(rest, isBlank); after != rest {
				pos = len(src) - len(after)
			} else if searched += len(rest); searched > maxSearched {
				return all, st.Line, "is one of too many lines that begin with export and no space"
			}
		}
		end := nameEnd(src[pos:])
		switch {
		case end == badName || pos == len(src):
			return all, st.Line, "is not NAME=value"
		case end >= 0:
			st.name = strings.TrimRightFunc(src[pos:pos+end], unicode.IsSpace)
			pos += end + 1
		}
		pos += len(src[pos:]) - len(strings.TrimLeftFunc(src[pos:], isBlank))

		if pos < len(src) && (src[pos] == '"' || src[pos] == '\'') {
			st.quote = src[pos]
			end := closing(src[pos:], st.quote)
			if end < 0 {
				return all, st.Line, "has a quote that is never closed"
			}
			st.text = strings.Trim(src[pos:pos+end], string(st.quote))
			pos += end + 1
		} else {
			end := strings.IndexAny(src[pos:], "\r\n")
			if end < 0 {
				end = len(src) - pos
			}
			value := src[pos : pos+end]
			cut := comment(value)
			st.text, st.tail = strings.TrimFunc(value[:cut], isBlank), value[cut:]
			pos += end
		}
		all = append(all, st)
	}
}

// maxSearched bounds, in bytes, godotenv's searches for a space: it searches the
// rest of the text at every name that begins with export.
const maxSearched = 8 << 20

// isBlank is godotenv's isSpace: white space without the end of a line.
func isBlank(r rune) bool {
	return strings.ContainsRune("\t\v\f\r \u0085\u00a0", r)
}

const (
	noName  = -1 // the text ends before a = or :
	badName = -2 // there is a character that no name has
)

// nameEnd is the index of the = or : of an assignment, or noName or badName. Like
// godotenv it reads single bytes as Latin-1.
func nameEnd(src string) int {
	for i := 0; i < len(src); i++ {
		c := rune(src[i])
		switch {
		case c == '=' || c == ':':
			return i
		case isBlank(c), c == '_', c == '.', unicode.IsLetter(c), unicode.IsNumber(c):
		default:
			return badName
		}
	}
	return noName
}

// closing is the index of the quote that ends a quoted value: the first one that no
// backslash precedes. It is -1 if there is none.
func closing(src string, quote byte) int {
	for i := 1; i < len(src); i++ {
		if src[i] == quote && src[i-1] != '\\' {
			return i
		}
	}
	return -1
}

// comment is where an unquoted value's comment begins: at its last # after a
// blank.
func comment(value string) int {
	for i := len(value) - 1; i > 0; i-- {
		if value[i] != '#' {
			continue
		}
		if before, _ := utf8.DecodeLastRuneInString(value[:i]); isBlank(before) {
			return i
		}
	}
	return len(value)
}

// unescape does to a double-quoted value what godotenv's two regular
// expressions do.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var first, second []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) || s[i+1] == '\n' {
			first = append(first, s[i])
			continue
		}
		switch i++; s[i] {
		case 'n':
			first = append(first, '\n')
		case 'r':
			first = append(first, '\r')
		default:
			first = append(first, '\\', s[i])
		}
	}
	for i := 0; i < len(first); i++ {
		if first[i] == '\\' && i+1 < len(first) && first[i+1] != '$' {
			i++
		}
		second = append(second, first[i])
	}
	return string(second)
}

// grown is an upper bound of the sum of all values' lengths after expansion,
// in bytes. It stops counting above limit.
func grown(all []Assignment, limit int) int {
	sizes := make(map[string]int, len(all))
	sum := 0
	for _, st := range all {
		text, size := st.text, 0
		switch st.quote {
		case '"':
			text = unescape(text)
			fallthrough
		case 0:
			for rest := text; ; {
				at := strings.IndexByte(rest, '$')
				if at < 0 {
					break
				}
				rest = rest[at+1:]
				size += sizes[reference(rest)]
			}
		}
		size += len(text)
		sizes[st.name] = size
		if sum += size; sum > limit {
			return sum
		}
	}
	return sum
}

// reference is the name that godotenv looks up after a $.
func reference(after string) string {
	after = strings.TrimPrefix(after, "(")
	after = strings.TrimPrefix(after, "{")
	end := 0
	for end < len(after) && (after[end] >= 'A' && after[end] <= 'Z' || after[end] >= '0' && after[end] <= '9' || after[end] == '_') {
		end++
	}
	return after[:end]
}

// withoutBOM strips the one byte order mark that a text may begin with.
func withoutBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }
