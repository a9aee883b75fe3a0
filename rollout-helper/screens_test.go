package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/doctor"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/status"
	"app-rollout/units"
	"app-rollout/units/dotenv"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

func TestFlagsFirst(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"app-rollout", "app-rollout"},
		{"app-rollout --version", "app-rollout --version"},
		{"app-rollout status shop --json blog", "app-rollout status --json shop blog"},
		{"app-rollout check --json", "app-rollout check --json"},
	} {
		if got := strings.Join(flagsFirst(strings.Fields(test.args)), " "); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Wrong usage is status 2.
func TestUsage(t *testing.T) {
	stderr := os.Stderr
	defer func() { os.Stderr = stderr }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = null
	for _, args := range []string{"frob", "status --frob", "show", "show a b", "history", "rollback", "run Shop", "run shop/x", "run shop --x", "swap a b", "swap --rollback", "swap --boot --rollback shop", "ports x", "check Shop"} {
		if got := run(t.Context(), append([]string{"app-rollout"}, strings.Fields(args)...)); got != exitUsage {
			t.Errorf("app-rollout %s: status %d", args, got)
		}
	}
}

func TestTarget(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string][2]string{
		"shop":                      {"shop", ""},
		"/etc/app-rollout/shop.env": {"shop", ""},
		"shop.env":                  {"shop", filepath.Join(here, "shop.env")},
		"/srv/shop/current/.env":    {"app", "/srv/shop/current/.env"},
		"./shop":                    {"shop", filepath.Join(here, "shop")},
	} {
		app, file, err := target(arg)
		if app != want[0] || file != want[1] || err != nil {
			t.Errorf("%s: %q %q %v, want %q", arg, app, file, err, want)
		}
	}
}

func TestParseRecord(t *testing.T) {
	r, ok := parseRecord([]byte(`{"__CURSOR":"c","APP_ROLLOUT_APP":"shop","APP_ROLLOUT_STEP":"failed","APP_ROLLOUT_INSTANCE":"shop@3.service","PRIORITY":"3","MESSAGE":[104,105]}`))
	if !ok || !r.failed() || r.Text != "hi" || r.App != "shop" || r.Unit != "shop@3.service" || r.Cursor != "c" {
		t.Errorf("%v %+v", ok, r)
	}
	if _, ok := parseRecord([]byte("-- No entries --")); ok {
		t.Error("taken for a record")
	}
}

// An app's log cannot move a terminal's cursor.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\r\u009bd é"); got != "a[2Jb\tcd é" {
		t.Errorf("%q", got)
	}
}

func newTestView(t *testing.T, tty bool) (*view, *bytes.Buffer) {
	var out bytes.Buffer
	s := &screen{w: &out, tty: tty, color: tty, width: 40, now: time.Now()}
	e := status.Eyes{Machine: &rollout.Machine{Layout: units.Layout{Root: t.TempDir()}}}
	return newView(s, s, e, []string{"shop", "blog"}), &out
}

var story = []record{
	{App: "shop", Step: "freeze", Text: "shop: generation 2 is frozen", Number: "2", Priority: "6"},
	{App: "shop", Step: "hold", Text: "shop: traffic is not steered", Number: "2", Priority: "4"},
	{App: "shop", Step: "failed", Text: "shop: shop@3 did not; see: journalctl", Priority: "3"},
}

// A pipe gets each line as it is, once.
func TestPlainView(t *testing.T) {
	v, out := newTestView(t, false)
	for _, r := range story {
		v.record(r)
		v.draw(t.Context())
	}
	v.apps = v.apps[1:] // shop alone
	v.summary()
	want := "shop: generation 2 is frozen\nshop: traffic is not steered\nshop: shop@3 did not; see: journalctl\n"
	if out.String() != want {
		t.Errorf("%q", out.String())
	}
}

// A terminal's live lines take one row each and are gone at the end.
func TestLiveView(t *testing.T) {
	v, out := newTestView(t, true)
	for _, r := range story {
		v.record(r)
		v.looked = time.Now() // there is nothing to look at
		v.draw(t.Context())
	}
	v.summary()
	rows := replay(out.String())
	want := []string{"shop: traffic is not steered", "✗ shop: shop@3 did not; see: journalctl", "2 apps in 0.0 s: 1 well, 1 failed"}
	if !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
}

// replay is what a terminal shows in the end: it knows "up" and "clear below".
func replay(text string) (rows []string) {
	row := ""
	for i := 0; i < len(text); i++ {
		if rest, ok := strings.CutPrefix(text[i:], "\x1b["); ok {
			end := strings.IndexAny(rest, "mAJ")
			if rest[end] == 'A' {
				rows = rows[:len(rows)-int(rest[0]-'0')]
			}
			i += end + 2
			continue
		}
		if text[i] == '\n' {
			rows, row = append(rows, row), ""
			continue
		}
		row += text[i : i+1]
	}
	return rows
}

// The last cell of a row pushes nothing aside.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	(&screen{w: &out}).table(" ", [][]cell{{{"A", ""}, {"B", ""}}, {{"long", ""}, {"x", ""}}, {{"a line by itself", ""}}})
	if want := " A     B\n long  x\n a line by itself\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestNext(t *testing.T) {
	for _, c := range []struct{ command, text, want string }{
		{"run", "shop@3 exited", "; when that is mended: app-rollout run shop"},
		{"run", "stop it, then: app-rollout run shop", ""},
		{"run", "the rollout was interrupted; x serves", "; to begin anew: app-rollout run shop"},
		{"rollback", "the rollout was interrupted; x serves", "; to begin anew: app-rollout rollback shop"},
		{"rollback", "the one before it is not wholly gone; app-rollout run puts it right", ""},
		{"rollback", "there is nothing to roll back to", ""},
	} {
		if got := next(c.command, "shop", c.text); got != c.want {
			t.Errorf("%s: %q: %q", c.command, c.text, got)
		}
	}
}

func TestPrintFindings(t *testing.T) {
	r := doctor.New()
	r.Refuse("shop", &units.Problem{Path: "/etc/app-rollout/shop.env", Line: 3, Text: "PORT must be a number"})
	var out bytes.Buffer
	printFindings(&screen{w: &out}, r)
	if out.String() != "/etc/app-rollout/shop.env:3: PORT must be a number\n" || r.OK {
		t.Errorf("%q", out.String())
	}
}

// Only what is not committed has something to take back.
func TestCommitted(t *testing.T) {
	v, _ := newTestView(t, false)
	v.record(record{App: "shop", Step: "drain"})
	v.record(record{App: "blog", Step: "watch"})
	for service, want := range map[string]bool{"app-rollout@shop.service": true, "app-rollout@blog.service": false, "app-rollout.service": false} {
		if v.committed(service) != want {
			t.Errorf("%s: %v", service, !want)
		}
	}
	v.record(record{App: "blog", Step: "failed", Priority: "3"})
	if !v.committed("app-rollout.service") {
		t.Error("what failed has gone back already")
	}
}
