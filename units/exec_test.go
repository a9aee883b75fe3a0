package units

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		``:                         nil,
		`a`:                        {"a"},
		`a  b	c `:                  {"a", "b", "c"},
		`'a b' c`:                  {"a b", "c"},
		`"a b"c'd e'`:              {"a bcd e"},
		`''  ""`:                   {"", ""},
		`--x="a \"b\" \\ \n \$ '"`: {`--x=a "b" \ \n $ '`},
		`'a\' b`:                   {`a\`, "b"},
		`a\ b \"c \\`:              {"a b", `"c`, `\`},
		`a ; b`:                    {"a", ";", "b"},
		`{"a":1}`:                  {`{a:1}`},
		`'{"a":"é 日本"}'`:           {`{"a":"é 日本"}`},
	} {
		if words, why := splitWords(in); why != "" || !slices.Equal(words, want) {
			t.Errorf("%s: %q %s, want %q", in, words, why, want)
		}
	}
}

// Whatever a word holds, systemd hands it on as it is.
func TestExecWord(t *testing.T) {
	for _, v := range load[[]struct{ Value string }](t, "environment-file-quoting.json") {
		if strings.ContainsAny(v.Value, "\n\r\t\x01\x1b\x7f\b") {
			continue // refused
		}
		line := "/usr/bin/app " + execWord(v.Value)
		if got := systemdWords(t, line); len(got) != 2 || got[1] != v.Value {
			t.Errorf("%q: %s is read as %q", v.Value, line, got)
		}
	}
	for word, want := range map[string]string{
		"plain":    "plain",
		"":         `""`,
		";":        `";"`,
		"100%":     `"100%%"`,
		"$A ${B}":  `"$$A $${B}"`,
		`a\b"c`:    `"a\\b\"c"`,
		"--p=3000": "--p=3000",
		"it's":     `"it's"`,
	} {
		if got := execWord(word); got != want {
			t.Errorf("%q is written %s, want %s", word, got, want)
		}
	}
}
