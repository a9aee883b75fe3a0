package command

import (
	"errors"
	"os"
	"testing"
	"time"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/units"
	"app-rollout/units/store"
)

// A run for all that went well ends with one line that says how the apps stand.
func TestSummary(t *testing.T) {
	layout := units.Layout{Root: t.TempDir()}
	said := ""
	m := &rollout.Machine{Layout: layout, Report: func(e rollout.Event) { said = e.Line() }}
	if err := errors.Join(os.MkdirAll(layout.Path(units.EtcDir), 0o755), os.MkdirAll(layout.Path(units.StateDir), 0o755)); err != nil {
		t.Fatal(err)
	}
	summary := func(want string) {
		t.Helper()
		if err := summarize(m, 4200*time.Millisecond); err != nil || said != want {
			t.Errorf("%q, %v, want %q", said, err, want)
		}
	}
	summary("there are no apps; put an .env, or a link to one, into /etc/app-rollout")
	app := func(name string, env bool, says string) {
		disk := store.Of(layout, name)
		recordOf(t, disk, name, 3, `"ready":true`+says)
		err := os.Symlink("generations/3", layout.State(name)+"/current")
		if err == nil && env {
			err = os.WriteFile(layout.Env(name), nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	app("blog", true, `,"copy_of":1`)
	app("shop", true, "")
	app("wiki", false, "")
	summary("done in 4.2 s: blog is held on generation 3, shop is on generation 3, wiki is stopped, without .env")
	for _, name := range []string{"s1", "s2", "s3", "s4", "s5"} {
		app(name, true, "")
	}
	summary("done in 4.2 s: blog is held on generation 3, s1 is on generation 3, s2 is on generation 3, s3 is on generation 3, s4 is on generation 3, s5 is on generation 3, and 2 more")
}
