package units

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A shellism is something in a command that only a shell understands.
type shellism struct{ text, remedy string }

// shellisms are what a command has outside of quotes that only a shell understands:
// the program gets it as an argument. Each kind is told once.
func shellisms(command string) (all []shellism) {
	for _, word := range bareWords(command) {
		for _, s := range shellSyntax {
			if (!word.cut || s.begins) && s.word.MatchString(word.text) && !slices.Contains(all, s.shellism) {
				all = append(all, s.shellism)
			}
		}
	}
	return all
}

var shellSyntax = []struct {
	word   *regexp.Regexp
	begins bool // it is told by the beginning of a word, whatever follows
	shellism
}{
	{regexp.MustCompile(`^(\d*|&)(>>?|<|>&|<&)`), true, shellism{"has a > or < in it, but no shell redirects what it prints",
		"leave it out: app-rollout logs shows all output"}},
	{regexp.MustCompile(`^[^&]*[^&]&$|^&$`), false, shellism{"has a & in it, but no shell puts it into the background",
		"leave it out: systemd does that"}},
	{regexp.MustCompile(`^(&&|\|\|?)$|;$`), false, shellism{"has a &&, | or ; in it, but no shell runs a second command",
		"put the commands into a script, with exec before the server"}},
	{regexp.MustCompile("`|^[^=]*=?\\$\\("), false, shellism{"has a command to replace in it, but no shell runs that",
		"put it into a script, with exec before the server"}},
}

// A bareWord is a word of a command up to its first quote or backslash.
type bareWord struct {
	text string
	cut  bool // there is one
}

// bareWords are the words of a command that do not begin with a quote or backslash.
func bareWords(command string) (words []bareWord) {
	var word []byte
	quoted, in := false, byte(0)
	end := func() {
		if len(word) > 0 {
			words = append(words, bareWord{string(word), quoted})
		}
		word, quoted = nil, false
	}
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case in != 0:
			if c == in {
				in = 0
			} else if c == '\\' && in == '"' {
				i++
			}
		case c == '"' || c == '\'':
			in, quoted = c, true
		case c == '\\':
			i++
			quoted = true
		case c == ' ' || c == '\t':
			end()
		case !quoted:
			word = append(word, c)
		}
	}
	end()
	return words
}

// scriptPlaces are the directories that the script of a `sh -c` enters, and those of
// the other absolute paths in it; none if the command is something else.
func scriptPlaces(words []string) (entered, others []string) {
	text, ok := shellScript(words)
	if !ok {
		return nil, nil
	}
	script := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n;&|()<>\"'", r) })
	for i, w := range script[:min(len(script), 64)] {
		switch {
		case !strings.HasPrefix(w, "/"):
		case i > 0 && script[i-1] == "cd":
			entered = append(entered, w)
		default:
			others = append(others, filepath.Dir(w))
		}
	}
	return entered, others
}

// shellScript is the script of a `sh -c`; ok is false if the command is something else.
func shellScript(words []string) (script string, ok bool) {
	switch filepath.Base(words[0]) {
	case "sh", "bash", "dash", "zsh", "ksh", "ash":
	default:
		return "", false
	}
	at := slices.IndexFunc(words, func(w string) bool { return scriptFlag.MatchString(w) })
	if at < 0 || at+1 == len(words) {
		return "", false
	}
	return words[at+1], true
}

// scriptFlag tells a shell that the next word is a script.
var scriptFlag = regexp.MustCompile(`^-[a-z]*c$`)
