package follow

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
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
	want := []string{"shop: rolling back from generation 3 to what generation 1 was", "shop: what comes back: A"}
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
		{2, []status.Instance{instance(1, 1), instance(2, 0)}, "generation 2: 0 of 3 instances listen, 4 connections on 1 old ones"},
		{2, []status.Instance{instance(2, 1), instance(2, 1), instance(2, 1)}, "generation 2: 3 of 3 instances listen"},
		{9, []status.Instance{instance(9, 0)}, "generation 9: 1 of 1 instances run"},
	} {
		if got := v.counts(status.App{Name: "shop", Nodes: 1, Instances: c.instances}, c.number); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
