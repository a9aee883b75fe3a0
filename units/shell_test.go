package units

import (
	"slices"
	"strings"
	"testing"
)

func TestShellisms(t *testing.T) {
	const (
		redirect   = "has a > or <"
		background = "has a & in it"
		second     = "has a &&, | or ;"
		replace    = "has a command to replace"
	)
	for command, want := range map[string][]string{
		`/usr/bin/app --x=1 -- a`:                        nil,
		`/usr/bin/app >>/var/log/app.log 2>&1`:           {redirect},
		`/usr/bin/app > log`:                             {redirect},
		`/usr/bin/app &>log`:                             {redirect},
		`/usr/bin/app <input`:                            {redirect},
		`/usr/bin/app >"/var/log/my app.log"`:            {redirect},
		`/usr/bin/app 2>>/var/log/'my app.log'`:          {redirect},
		`/usr/bin/app >/var/log/my\ app.log`:             {redirect},
		`/usr/bin/app ">"log --x=">" '2'>&1 a">"`:        nil,
		`/usr/bin/app a&"b" a;"b" x&\&`:                  nil,
		`/usr/bin/app &`:                                 {background},
		`/usr/bin/app x&`:                                {background},
		`/bin/migrate && /usr/bin/app`:                   {second},
		`/usr/bin/app | /usr/bin/tee log`:                {second},
		`/bin/migrate; /usr/bin/app`:                     {second},
		`/bin/migrate || /bin/true > x &`:                {second, redirect, background},
		"/usr/bin/app `hostname`":                        {replace},
		`/usr/bin/app --host=$(hostname)`:                {replace},
		`/bin/sh -c 'cd /srv && exec node x > log 2>&1'`: nil,
		`/usr/bin/app '&&' "|" \> ';' a\&`:               nil,
		`/usr/bin/app --pattern=a|b http://x/?a=1&b=2`:   nil,
		`/usr/bin/app -> =>`:                             nil,
	} {
		var got []string
		for _, s := range shellisms(command) {
			got = append(got, s.text)
		}
		if len(got) != len(want) || slices.ContainsFunc(want, func(begin string) bool {
			return !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, begin) })
		}) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// What a shell's script enters counts, as what the command itself names does.
func TestScriptPlaces(t *testing.T) {
	for _, c := range []struct {
		words           []string
		entered, others string
	}{
		{[]string{"/bin/sh", "-c", "cd /srv/shop/current && exec node server.js"}, "/srv/shop/current", ""},
		{[]string{"/bin/bash", "-lc", `cd "/srv/shop/current"; /opt/x/bin/node /srv/shop/server.js`}, "/srv/shop/current", "/opt/x/bin /srv/shop"},
		{[]string{"/bin/sh", "/srv/shop/run"}, "", ""},
		{[]string{"/bin/sh", "-c"}, "", ""},
		{[]string{"/usr/bin/node", "-c", "cd /srv/shop/current"}, "", ""},
	} {
		entered, others := scriptPlaces(c.words)
		if got := strings.Join(entered, " "); got != c.entered {
			t.Errorf("%q enters %q, want %q", c.words, got, c.entered)
		}
		if got := strings.Join(others, " "); got != c.others {
			t.Errorf("%q names %q, want %q", c.words, got, c.others)
		}
	}
}
