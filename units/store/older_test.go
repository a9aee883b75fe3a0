package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"app-rollout/units"
)

// older is what 0.1.0 wrote on a machine where it rolled out three apps.
var older = units.Layout{Root: "testdata/0.1.0"}

// What 0.1.0 wrote is read as 0.1.0 meant it.
func TestReadOlder(t *testing.T) {
	apps, err := Apps(older)
	if err != nil || !slices.Equal(apps, []string{"blog", "plain", "shop"}) {
		t.Fatalf("the apps are %q, %v", apps, err)
	}
	for _, c := range []struct {
		app                  string
		number, of, rejected int
		plan                 units.Plan
		next                 int
		serving              []int
	}{
		{"blog", 3, 1, 0, units.Plan{Mode: 1, Nodes: 2, Port: 8081, ReusePort: true, ReadySec: 60, WatchSec: 3, DrainSec: 30,
			TimeoutStopSec: 30, Type: "exec", User: "ar-blog", WorkingDirectory: "/"}, 7, []int{5, 6}},
		{"plain", 2, 0, 0, units.Plan{Nodes: 1, Port: 8082, ReusePort: true, ReadySec: 60, WatchSec: 3, DrainSec: 30,
			TimeoutStopSec: 30, Type: "exec", User: "ar-plain", WorkingDirectory: "/"}, 1, []int{0}},
		{"shop", 2, 0, 3, units.Plan{Mode: 1, Nodes: 3, Port: 8080, HealthPath: "/health", ReadySec: 20, WatchSec: 0, DrainSec: 0,
			TimeoutStopSec: 20, Type: "notify", User: "www-data", WorkingDirectory: "/opt/apps"}, 10, []int{4, 5, 6}},
	} {
		s := Of(older, c.app)
		g, err := s.Current()
		if err != nil {
			t.Errorf("%s: %v", c.app, err)
			continue
		}
		if g.Number != c.number || !g.Ready || g.CopyOf != c.of || g.Plan != c.plan {
			t.Errorf("%s: the current generation is %+v", c.app, g)
		}
		if r := g.Rollout; r == nil || r.Result != "ready" || r.Started.IsZero() || r.Seconds == 0 || len(r.Steps) == 0 {
			t.Errorf("%s: the receipt is %+v", c.app, g.Rollout)
		}
		rejected, err := s.Rejected()
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.app, err)
		case c.rejected == 0 && rejected != nil, c.rejected > 0 && (rejected == nil || rejected.Number != c.rejected || rejected.Rollout.Result != "failed" || rejected.Rollout.Reason == ""):
			t.Errorf("%s: the rejected generation is %+v", c.app, rejected)
		}
		i, err := s.Instances()
		if err != nil || i.Next != c.next || !slices.Equal(i.Serving, c.serving) || i.Shifted != 0 {
			t.Errorf("%s: the instances are %+v, %v", c.app, i, err)
		}
	}
}

// The digests of an .env are those that 0.1.0 computed, so that an upgrade makes no
// app a changed one. A field that a later version adds counts only if it has not
// its default.
func TestOlderDigests(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"/etc/passwd":      "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n",
		"/etc/group":       "root:x:0:\nwww-data:x:33:\n",
		"/opt/apps/server": "",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	eachOlder(t, func(s Store, g *Generation) {
		env, err := s.Env(g.Number)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := units.Layout{Root: root}.Check(&units.Source{App: g.App, Path: g.Source, User: "root", Text: env})
		if err != nil {
			t.Fatal(err)
		}
		if spec.Digest() != g.Digest || spec.Unsized() != g.Unsized {
			t.Errorf("%s, generation %d: the same .env has other digests now", g.App, g.Number)
		}
	})
}

// What this version writes has all the fields that 0.1.0 reads, so that one can go
// back to it.
func TestOlderFields(t *testing.T) {
	eachOlder(t, func(s Store, g *Generation) {
		was := fields(t, filepath.Join(s.Dir(g.Number), generationFile))
		is := fields(t, filepath.Join(write(t, g), generationFile))
		if names := differing(was, is); len(names) > 0 {
			t.Errorf("%s, generation %d: this version writes %v differently", g.App, g.Number, names)
		}
	})
	for _, app := range []string{"blog", "plain", "shop"} {
		i, err := Of(older, app).Instances()
		if err != nil {
			t.Fatal(err)
		}
		l := units.Layout{Root: t.TempDir()}
		if err := os.MkdirAll(l.Run(app), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Of(l, app).SaveInstances(i); err != nil {
			t.Fatal(err)
		}
		was, is := fields(t, filepath.Join(older.Run(app), instancesFile)), fields(t, filepath.Join(l.Run(app), instancesFile))
		if names := differing(was, is); len(names) > 0 {
			t.Errorf("%s: this version writes %v of the instances differently", app, names)
		}
	}
}

// A field that a generation.json lacks gets the default of the settings table:
// an older version may have written the file.
func TestMissingFields(t *testing.T) {
	file := fields(t, filepath.Join(Of(older, "shop").Dir(2), generationFile))
	for _, name := range planFields() {
		delete(file, name)
	}
	g, err := ReadGeneration(write(t, file))
	if err != nil {
		t.Fatal(err)
	}
	want := units.Plan{Nodes: 2, ReusePort: true, ReadySec: 60, WatchSec: 3, DrainSec: 30, TimeoutStopSec: 30, Type: "exec"}
	if g.Plan != want {
		t.Errorf("a generation.json without a plan has the plan\n%+v, want\n%+v", g.Plan, want)
	}
}

// A zero that a generation.json does say stays zero.
func TestZeroFields(t *testing.T) {
	g := Generation{App: "shop", Number: 1, Digest: "x", Plan: units.Plan{Nodes: 1}}
	read, err := ReadGeneration(write(t, g))
	if err != nil {
		t.Fatal(err)
	}
	if read.Plan != g.Plan {
		t.Errorf("the plan\n%+v is read as\n%+v", g.Plan, read.Plan)
	}
}

// eachOlder calls do with every generation that 0.1.0 froze.
func eachOlder(t *testing.T, do func(Store, *Generation)) {
	t.Helper()
	n := 0
	for _, app := range []string{"blog", "plain", "shop"} {
		s := Of(older, app)
		numbers, err := s.Generations()
		if err != nil {
			t.Fatal(err)
		}
		for _, number := range numbers {
			g, err := s.Generation(number)
			if err != nil {
				t.Fatal(err)
			}
			do(s, g)
			n++
		}
	}
	if n != 8 {
		t.Fatalf("%d generations", n)
	}
}

// fields are the fields of the JSON object in a file.
func fields(t *testing.T, path string) (object map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object
}

// differing names the fields of was that is lacks or has with another value. It
// looks into objects too.
func differing(was, is map[string]any) (names []string) {
	for name, value := range was {
		inner, object := value.(map[string]any)
		other, _ := is[name].(map[string]any)
		switch {
		case object:
			for _, n := range differing(inner, other) {
				names = append(names, name+"."+n)
			}
		case !reflect.DeepEqual(value, is[name]):
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// planFields are the names of the plan's fields in a generation.json.
func planFields() (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[units.Plan]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// write makes a directory of a generation whose generation.json is this value.
func write(t *testing.T, value any) (dir string) {
	t.Helper()
	dir = t.TempDir()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{generationFile, units.EnvFile, unitFile, units.EnvironmentFile} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
