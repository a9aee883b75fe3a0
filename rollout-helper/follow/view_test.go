package follow

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

func newTestView(t *testing.T, tty bool) (*View, *bytes.Buffer) {
	var out bytes.Buffer
	s := screen.Plain(&out)
	if tty {
		s = screen.Terminal(&out, 40)
	}
	e := status.Eyes{Machine: &rollout.Machine{Layout: units.Layout{Root: t.TempDir()}}}
	return NewView(s, s, e, []string{"shop", "blog"}), &out
}

var story = []journal.Record{
	{App: "shop", Step: step.Freeze, Text: "shop: generation 2 is frozen", Number: "2", Priority: "6"},
	{App: "shop", Step: step.Hold, Text: "shop: traffic is not steered", Number: "2", Priority: "4"},
	{App: "shop", Step: step.Failed, Text: "shop: shop@3 did not; see: journalctl", Priority: "3"},
}

// A pipe gets each line as it is, once.
func TestPlainView(t *testing.T) {
	v, out := newTestView(t, false)
	for _, r := range story {
		v.record(r)
		v.draw(t.Context())
	}
	v.apps = v.apps[1:] // shop alone
	v.summary(t.Context())
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
	v.summary(t.Context())
	rows := replay(out.String())
	want := []string{"shop: traffic is not steered", "✗ shop: shop@3 did not; see: journalctl", "2 apps in 0.0 s: 1 well, 1 failed"}
	if !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
}

// What a rollback brings back, and what it cannot, stays on the terminal.
func TestRollbackStays(t *testing.T) {
	v, out := newTestView(t, true)
	for _, text := range []string{"shop: rolling back from generation 3 to what generation 1 was", "shop: what comes back: A"} {
		v.record(journal.Record{App: "shop", Step: step.Rollback, Text: text, Number: "1", Priority: "6"})
		v.looked = time.Now()
		v.draw(t.Context())
	}
	v.clear()
	want := []string{"shop: rolling back from generation 3 to", "  what generation 1 was", "shop: what comes back: A"}
	if rows := replay(out.String()); !slices.Equal(rows, want) {
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

// Only what is not committed has something to take back.
func TestCommitted(t *testing.T) {
	v, _ := newTestView(t, false)
	v.record(journal.Record{App: "shop", Step: step.Drain})
	v.record(journal.Record{App: "blog", Step: step.Watch})
	for service, want := range map[string]bool{"app-rollout@shop.service": true, "app-rollout@blog.service": false, "app-rollout.service": false} {
		if v.committed(service) != want {
			t.Errorf("%s: %v", service, !want)
		}
	}
	v.record(journal.Record{App: "blog", Step: step.Failed, Priority: "3"})
	if !v.committed("app-rollout.service") {
		t.Error("what failed has gone back already")
	}
}

// The live line counts against the instances that there will be, as far as that is known.
func TestCounts(t *testing.T) {
	v, _ := newTestView(t, true)
	dir := store.Of(v.eyes.Layout, "shop").Dir(2)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	record := `{"app":"shop","generation":2,"digest":"d","mode":1,"nodes":3}`
	for name, text := range map[string]string{"generation.json": record, "env": "", "unit": "", "environment": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	instance := func(generation, listeners int) status.Instance {
		return status.Instance{Generation: generation, Active: "active", Listeners: listeners, Connections: 4}
	}
	for _, c := range []struct {
		number    int
		instances []status.Instance
		want      string
	}{
		{2, []status.Instance{instance(1, 1)}, ""},
		{2, []status.Instance{instance(1, 1), instance(2, 0)}, "generation 2: 0 of 3 listen, 4 connections on 1 old"},
		{2, []status.Instance{instance(2, 1), instance(2, 1), instance(2, 1)}, "generation 2: 3 of 3 listen"},
		{9, []status.Instance{instance(9, 0)}, "generation 9: 1 of 1 run"},
	} {
		if got := v.counts(status.App{Name: "shop", Nodes: 1, Instances: c.instances}, c.number); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// mute is a systemd that does not answer.
type mute struct{ rollout.Systemd }

func (mute) Units(context.Context, ...string) ([]systemd.Unit, error) {
	return nil, errors.New("no answer")
}

// A restart is told as one, though the generation is the same as before.
func TestRestartedView(t *testing.T) {
	v, _ := newTestView(t, true)
	v.eyes.Systemd = mute{}
	disk := store.Of(v.eyes.Layout, "shop")
	if err := os.MkdirAll(disk.Dir(2), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ restart, want string }{
		{``, "shop: generation 2 is the current one, as before"},
		{`,"restart":{"started":"2026-01-01T00:00:00Z","seconds":1}`, "shop: generation 2 is the current one, as before"},
		{`,"restart":{"started":"2126-01-01T00:00:00Z","seconds":3.21,"traffic":"steered","cut":1}`, "shop: generation 2 is the current one: restarted in 3.2 s, traffic steered, 0 connections drained, 1 cut"},
	} {
		text := `{"app":"shop","generation":2,"digest":"d","nodes":2,"ready":true,"rollout":{}` + test.restart + `}`
		for name, text := range map[string]string{"generation.json": text, "env": "", "unit": "", "environment": ""} {
			if err := os.WriteFile(filepath.Join(disk.Dir(2), name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("generations/2", v.eyes.Layout.State("shop")+"/current"); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		if got := v.success(t.Context(), &progress{name: "shop", before: 2, number: 2, began: time.Now()}); got != test.want {
			t.Errorf("%s: %q, want %q", test.restart, got, test.want)
		}
	}
	// An app that was stopped has the same generation as before, too.
	const want = "shop: its .env is gone, and so it was stopped"
	if got := v.success(t.Context(), &progress{name: "shop", before: 2, step: step.Stop, began: time.Now()}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The end of a run for all, which `systemctl status` shows, is told by the summary here.
func TestEndView(t *testing.T) {
	for tty, want := range map[bool]string{true: "2 apps in 0.0 s: 2 well, 0 failed\n", false: "2 apps in 0.0 s: 2 well, 0 failed\n"} {
		v, out := newTestView(t, tty)
		v.record(journal.Record{Step: step.End, Text: "done in 4.2 s: shop is on generation 2", Priority: "6"})
		v.summary(t.Context())
		if out.String() != want {
			t.Errorf("%v: %q", tty, out.String())
		}
	}
}

// TestSilentView: a service that fails without a word, as one whose helper was killed, is
// named once, with where to look; its apps are not told to be well.
func TestSilentView(t *testing.T) {
	const says = "app-rollout@shop.service failed (oom-kill); see: journalctl -b -u app-rollout@shop.service"
	for _, c := range []struct {
		name     string
		services []string // that fail
		records  []journal.Record
		want     string
		well     bool // so shop is told to be
	}{
		{"killed", []string{"app-rollout@shop.service"}, nil, says + "\n2 apps in T s: 1 well, 1 failed\n", false},
		{"killed, one for all", []string{"app-rollout.service"}, nil, "app-rollout.service failed (oom-kill); see: journalctl -b -u app-rollout.service\n", false},
		{"it says why", []string{"app-rollout@shop.service"}, []journal.Record{{App: "shop", Step: step.Failed, Text: "shop: why", Priority: "3"}},
			"shop: why\n2 apps in T s: 1 well, 1 failed\n", false},
		{"it says why, but not of which app", []string{"app-rollout.service"}, []journal.Record{{Service: "app-rollout.service", Text: "why", Priority: "3"}},
			"why\n2 apps in T s: 2 well, 0 failed\n", true},
		{"another one says why", []string{"app-rollout@shop.service", "app-rollout@blog.service"},
			[]journal.Record{{App: "blog", Service: "app-rollout@blog.service", Step: step.Failed, Text: "blog: why", Priority: "3"}},
			"blog: why\n" + says + "\n2 apps in T s: 0 well, 2 failed\n", false},
		{"only a warning was said", []string{"app-rollout@shop.service"}, []journal.Record{{App: "shop", Service: "app-rollout@shop.service", Text: "shop: hm", Priority: "4"}},
			"shop: hm\n" + says + "\n2 apps in T s: 1 well, 1 failed\n", false},
	} {
		for _, tty := range []bool{false, true} {
			v, out := newTestView(t, tty)
			v.eyes.Systemd = mute{}
			if err := ready(v, "shop"); err != nil {
				t.Fatal(err)
			}
			v.record(journal.Record{App: "shop", Step: step.Start, Text: "shop: starting", Priority: "6"})
			for _, r := range c.records {
				v.record(r)
			}
			for _, service := range c.services {
				v.broke(service, "oom-kill")
			}
			v.summary(t.Context())
			got := took.ReplaceAllString(strings.TrimPrefix(out.String(), "shop: starting\n"), "in T s")
			if tty && strings.Contains(got, "✓") != c.well || !tty && got != c.want {
				t.Errorf("%s, on a terminal: %v: %q, want %q", c.name, tty, got, c.want)
			}
		}
	}
}

// took is how long a run took.
var took = regexp.MustCompile(`in [0-9.]+ s`)

// ready makes an app be on a generation that is ready, as it was before the run.
func ready(v *View, app string) error {
	disk := store.Of(v.eyes.Layout, app)
	err := errors.Join(os.MkdirAll(disk.Dir(2), 0o700), os.Symlink("generations/2", v.eyes.Layout.State(app)+"/current"))
	text := `{"app":"` + app + `","generation":2,"digest":"d","nodes":2,"ready":true,"rollout":{}}`
	for name, text := range map[string]string{"generation.json": text, "env": "", "unit": "", "environment": ""} {
		err = errors.Join(err, os.WriteFile(filepath.Join(disk.Dir(2), name), []byte(text), 0o600))
	}
	return err
}

// TestUnfollowed: who does not wait any longer is told how to follow all that goes on.
func TestUnfollowed(t *testing.T) {
	const want = "journalctl -f -u app-rollout@shop.service -u app-rollout@blog.service"
	if err := unfollowed([]string{"app-rollout@shop.service", "app-rollout@blog.service"}); !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestViewFits: neither the live lines nor what stays of a run is wider than the terminal,
// however many instances there are.
func TestViewFits(t *testing.T) {
	for _, instances := range []int{1, 8, 64} {
		var all strings.Builder
		for n := range instances {
			all.WriteString(" shop@" + strconv.Itoa(n+1))
		}
		for _, width := range []int{40, 80, 132} {
			v, out := newTestView(t, true)
			v.out = screen.Terminal(out, width)
			v.err = v.out
			disk := store.Of(v.eyes.Layout, "shop")
			if err := errors.Join(os.MkdirAll(disk.Dir(2), 0o700), os.Symlink("generations/2", v.eyes.Layout.State("shop")+"/current")); err != nil {
				t.Fatal(err)
			}
			text := `{"app":"shop","generation":2,"digest":"d","nodes":2,"ready":true,"rollout":{"seconds":123.45,"traffic":"steered","traffic_reason":"why it is so","drained":12345,"told":1234,"untold":12,"closed":123,"cut":12,"streams":3,"migrated":1,"migrate_failed":2,"listen_drops":3}}`
			for name, text := range map[string]string{"generation.json": text, "env": "", "unit": "", "environment": ""} {
				if err := os.WriteFile(filepath.Join(disk.Dir(2), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			v.eyes.Systemd = mute{}
			for _, r := range []journal.Record{
				{App: "shop", Step: step.Start, Text: "shop: starting" + all.String(), Number: "2", Priority: "6"},
				{App: "shop", Step: step.Watch, Text: "shop: shop@1 is slow, and so are" + all.String(), Number: "2", Priority: "4"},
				{App: "shop", Step: step.Rollback, Text: "shop: what comes back:" + all.String(), Number: "2", Priority: "6"},
				{App: "blog", Step: step.Failed, Text: "blog: did not become ready:" + all.String() + "; see: journalctl -b -u 'blog@*.service'", Priority: "3"},
			} {
				v.record(r)
				v.looked = time.Now() // there is nothing to look at
				v.draw(t.Context())
			}
			v.note(interrupt(nil, v))
			v.summary(t.Context())
			if rows := replay(out.String()); !slices.ContainsFunc(rows, func(row string) bool { return strings.HasPrefix(row, "✓ shop: generation 2 ") }) {
				t.Errorf("the success is not told: %q", rows)
			}
			for line := range strings.SplitSeq(out.String(), "\n") {
				if line = moves.ReplaceAllString(line, ""); screen.Width(line) >= width {
					t.Errorf("%d columns on a terminal of %d: %q", screen.Width(line), width, line)
				}
			}
		}
	}
}

// moves are the sequences by which the live lines are removed.
var moves = regexp.MustCompile(`\x1b\[\d*[AJ]`)

// TestManyLive: no more live lines than rows are drawn, those of the apps that are under
// way first.
func TestManyLive(t *testing.T) {
	v, _ := newTestView(t, true)
	v.apps = nil
	for n := range 64 {
		p := &progress{name: "app" + strconv.Itoa(n), step: step.Start, began: time.Now()}
		if n < 60 {
			p.ended = time.Now()
		}
		v.apps = append(v.apps, p)
	}
	lines := v.live()
	if len(lines) != v.out.Most() || !strings.HasPrefix(lines[3], "app63 ") || lines[len(lines)-1] != "… and 42 more" {
		t.Errorf("%q", lines)
	}
	v.apps = v.apps[:8]
	if lines := v.live(); len(lines) != 8 || !strings.HasPrefix(lines[0], "app0 ") {
		t.Errorf("%q", lines)
	}
}
