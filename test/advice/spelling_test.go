package advice

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"app-rollout/units"
	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

// TestSpellings follows what the messages recommend to write in an .env: it is
// recommended before, no longer afterwards, and then nothing is refused and the app
// gets what was meant.
func TestSpellings(t *testing.T) {
	l := shop(t)
	for _, s := range Spellings {
		_, before := read(l, s.Before)
		if !says(before, s.Advice) {
			t.Errorf("%q is not recommended for %.200q, but %q", s.Advice, s.Before, before)
		}
		spec, after := read(l, s.After)
		if says(after, s.Advice) {
			t.Errorf("%q is recommended for %.200q too, which follows it", s.Advice, s.After)
		}
		if spec == nil {
			t.Errorf("%q is refused, which follows %q: %q", s.After, s.Advice, after)
			continue
		}
		for name, want := range s.Want {
			if got := spec.Env[name]; got != want {
				t.Errorf("as %q recommends, %s is %q, want %q", s.Advice, name, got, want)
			}
		}
	}
}

// shop is a machine with an app in /srv/shop, and a program that it may run.
func shop(t *testing.T) units.Layout {
	t.Helper()
	l := units.Layout{Root: t.TempDir()}
	for path, mode := range map[string]os.FileMode{
		"/usr/bin/app": 0o755, "/usr/bin/gunicorn": 0o755, "/usr/bin/sh": 0o755, "/bin/migrate": 0o755, "/srv/shop/script": 0o755, "/srv/shop/.env": 0o644,
		"/srv/shop/data/x": 0o644, "/srv/shop/releases/1/x": 0o755, "/etc/app-rollout/x": 0o644,
	} {
		path = l.Path(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("releases/1", l.Path("/srv/shop/current")); err != nil {
		t.Fatal(err)
	}
	return l
}

// read reads an .env of root's. It returns all remedies that are told. The spec is nil
// if the .env is refused.
func read(l units.Layout, text string) (spec *units.Spec, remedies []string) {
	spec, err := l.Check(&units.Source{App: "shop", Path: "/srv/shop/.env", Linked: true, User: "root", Text: []byte(text)})
	for _, one := range problem.Each(err) {
		remedies = append(remedies, problem.Of(one).Remedy)
	}
	if err != nil {
		return nil, remedies
	}
	for _, w := range spec.Warnings {
		remedies = append(remedies, w.Remedy)
	}
	return spec, remedies
}

// says finds an advice among remedies, whatever stands for each "…".
func says(remedies []string, advice string) bool {
	pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(advice), "…", ".*") + "$")
	for _, r := range remedies {
		if pattern.MatchString(r) {
			return true
		}
	}
	return false
}
