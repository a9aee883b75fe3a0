package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/dotenv"
	"app-rollout/units/store"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

type noUnits struct{ rollout.Systemd }

func (noUnits) Units(context.Context, ...string) ([]systemd.Unit, error) { return nil, nil }

type kernel struct {
	rollout.Traffic
	listeners []sockets.Listener
}

func (k kernel) Look() (*sockets.View, error) { return sockets.NewView(k.listeners, nil, nil), nil }
func (k kernel) Owner(uint64) string          { return "nginx.service" }

const secret = "c4n4ryS3cret"

// examine checks apps by what their .env files say.
func examine(t *testing.T, envs map[string]string, apps ...string) *Report {
	t.Helper()
	l := units.Layout{Root: t.TempDir()}
	files := map[string]string{"/usr/bin/shop": "", units.EtcDir + "/.keep": "", units.StateDir + "/.keep": ""}
	for app, text := range envs {
		files[units.EnvPath(app)] = text + "\nSECRET='" + secret + "'\n"
	}
	for path, text := range files {
		path = l.Path(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := &Doctor{Machine: &rollout.Machine{Layout: l, Systemd: noUnits{}, Traffic: kernel{listeners: []sockets.Listener{
		{Group: sockets.Group{Addr: netip.MustParseAddrPort("0.0.0.0:9999")}, Cgroup: 7},
	}}}}
	r := New()
	for _, app := range apps {
		d.App(context.Background(), r, app)
	}
	return r
}

func TestAdvice(t *testing.T) {
	const good = "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\n"
	for name, test := range map[string]struct {
		env  string
		ok   bool
		want []string // what each finding has
	}{
		"fine":          {good + "PORT=8080", true, nil},
		"no port":       {good, true, []string{"warning: ?PORT is missing"}},
		"no port, one":  {"SYSTEMD_EXEC_START=/usr/bin/shop", true, nil},
		"taken":         {good + "PORT=9999", true, []string{"PORT 9999 is taken by nginx on 0.0.0.0:9999"}},
		"short stop":    {good + "PORT=8080\nSYSTEMD_TIMEOUT_STOP_SEC=5s", true, []string{"SYSTEMD_TIMEOUT_STOP_SEC (5 s) is shorter than SYSTEMD_CLUSTER_DRAIN_SEC (30 s)"}},
		"not shared":    {good + "PORT=8080\nSYSTEMD_CLUSTER_REUSE_PORT=0", true, []string{"must set SO_REUSEPORT itself"}},
		"no nodes":      {"SYSTEMD_EXEC_START=/usr/bin/shop\nSYSTEMD_CLUSTER_NODES=3", true, []string{":2: SYSTEMD_CLUSTER_NODES has no effect without SYSTEMD_CLUSTER_MODE=1"}},
		"one node":      {"SYSTEMD_EXEC_START=/usr/bin/shop\nSYSTEMD_CLUSTER_NODES=1", true, nil},
		"no likeness":   {good + "PORT=8080\nSYSTEMD_FOO=3", false, []string{":4: SYSTEMD_FOO is no setting; see: man app-rollout.env"}},
		"dollar":        {good + "PORT=8080\nA=\"x$B\"", true, []string{":4: A has a $"}},
		"several wrong": {"SYSTEMD_CLUSTER_MODE=maybe\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=x", false, []string{":1: SYSTEMD_CLUSTER_MODE must be", ":3: PORT must be"}},
		"no setting":    {good + "PORT=8080\nSYSTEMD_CLUSTER_NODS=3", false, []string{"did you mean SYSTEMD_CLUSTER_NODES"}},
		"no program":    {"SYSTEMD_EXEC_START=/usr/bin/gone\nPORT=8080", false, []string{"SYSTEMD_EXEC_START must name a program"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, map[string]string{"shop": test.env}, "shop")
			if r.OK != test.ok || len(r.Findings) != len(test.want) {
				t.Fatalf("ok %v: %v, want %v: %q", r.OK, r.Findings, test.ok, test.want)
			}
			for i, f := range r.Findings {
				want := strings.TrimPrefix(test.want[i], "warning: ?")
				if text := f.String(); !strings.Contains(text, want) || strings.Contains(text, secret) {
					t.Errorf("%q, want %q", text, want)
				}
				if strings.Contains(f.Text+f.Remedy, "\n") {
					t.Errorf("several lines: %q", f.Text)
				}
			}
		})
	}
}

// untold is a machine of which not everything can be seen.
type untold struct {
	rollout.Systemd
	units []systemd.Unit
	err   error
}

func (u untold) Units(context.Context, ...string) ([]systemd.Unit, error) { return u.units, u.err }

// What cannot be looked at counts as an error, because it may be one. An .env that is
// gone is worth a word only if its app runs.
func TestUntold(t *testing.T) {
	for name, c := range map[string]struct {
		env     string // "" if it is gone
		machine untold
		current string // where the link to the current generation leads
		ok      bool
		want    string
	}{
		"no rights": {"SYSTEMD_EXEC_START=/usr/bin/shop", untold{err: fs.ErrPermission}, "", false,
			"shop: what a run would do cannot be told: only root can see the generations; try sudo"},
		"no systemd": {"SYSTEMD_EXEC_START=/usr/bin/shop", untold{err: errors.New("no bus")}, "", false,
			"shop: what a run would do cannot be told: no bus"},
		"a damaged store": {"SYSTEMD_EXEC_START=/usr/bin/shop", untold{}, "nowhere", false,
			"shop: what a run would do cannot be told: CURRENT: does not lead to a generation; "},
		"gone, and stopped": {"", untold{}, "", true, ""},
		"gone, and failed":  {"", untold{units: []systemd.Unit{{Name: "shop.service", Active: "failed"}}}, "", true, ""},
		"gone, and up": {"", untold{units: []systemd.Unit{{Name: "shop.service", Active: "active"}}}, "", true,
			"warning: ENV: is gone: the next run stops the app"},
		"gone, who knows": {"", untold{err: errors.New("no bus")}, "", true,
			"warning: ENV: is gone: the next run stops the app, if it still runs"},
	} {
		t.Run(name, func(t *testing.T) {
			l := units.Layout{Root: t.TempDir()}
			for path, text := range map[string]string{"/usr/bin/shop": "", units.EtcDir + "/.keep": "", units.StateDir + "/shop/.keep": "", units.EnvPath("shop"): c.env} {
				if path == units.EnvPath("shop") && text == "" {
					continue
				}
				if err := errors.Join(os.MkdirAll(filepath.Dir(l.Path(path)), 0o755), os.WriteFile(l.Path(path), []byte(text), 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			current := l.State("shop") + "/current"
			if c.current != "" {
				if err := os.Symlink(c.current, current); err != nil {
					t.Fatal(err)
				}
			}
			r := New()
			(&Doctor{Machine: &rollout.Machine{Layout: l, Systemd: c.machine, Traffic: kernel{}}}).App(context.Background(), r, "shop")
			said := ""
			for _, f := range r.Findings {
				said += f.String() + "\n"
			}
			want := strings.NewReplacer("CURRENT", current, "ENV", l.Env("shop")).Replace(c.want)
			if r.OK != c.ok || !strings.HasPrefix(said, want) || (want == "") != (said == "") || strings.Count(said, "\n") > 1 {
				t.Errorf("ok %v:\n%s\nwant %v:\n%s", r.OK, said, c.ok, want)
			}
		})
	}
}

// What to do is a field of its own, for people as well as in the JSON.
func TestRemedy(t *testing.T) {
	env := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=8080\nSYSTEMD_CLUSTER_NODS=3"
	r := examine(t, map[string]string{"shop": env}, "shop")
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":2,"ok":false,"findings":[{"level":"error","app":"shop","path":"/etc/app-rollout/shop.env","line":4,` +
		`"text":"SYSTEMD_CLUSTER_NODS is no setting","remedy":"did you mean SYSTEMD_CLUSTER_NODES?"}]}`
	if string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if line := r.Findings[0].String(); line != "/etc/app-rollout/shop.env:4: SYSTEMD_CLUSTER_NODS is no setting; did you mean SYSTEMD_CLUSTER_NODES?" {
		t.Errorf("the line is %q", line)
	}
}

func TestSamePort(t *testing.T) {
	const good = "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=8080"
	r := examine(t, map[string]string{"shop": good, "blog": good}, "blog", "shop")
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Text, "is the app blog's too") {
		t.Errorf("%v", r.Findings)
	}
}

// A PORT that belongs to another app is one error, and no advice beside it.
func TestPortOfAnother(t *testing.T) {
	const good = "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=9999\n"
	l := units.Layout{Root: t.TempDir()}
	for path, text := range map[string]string{"/usr/bin/shop": "", units.EnvPath("blog"): good, units.EnvPath("shop"): good, units.StateDir + "/.keep": ""} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(l.Path(path)), 0o755), os.WriteFile(l.Path(path), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := l.Read("blog")
	if err != nil {
		t.Fatal(err)
	}
	g, err := store.Of(l, "blog").Freeze(spec, time.Now())
	if err == nil {
		err = store.Of(l, "blog").Commit(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &Doctor{Machine: &rollout.Machine{Layout: l, Systemd: noUnits{}, Traffic: kernel{listeners: []sockets.Listener{
		{Group: sockets.Group{Addr: netip.MustParseAddrPort("0.0.0.0:9999")}, Cgroup: 7},
	}}}}
	r := New()
	d.App(context.Background(), r, "shop")
	if len(r.Findings) != 1 || r.OK || !strings.Contains(r.Findings[0].String(), "shop.env: port 9999 belongs to blog; give shop another PORT") {
		t.Errorf("%v", r.Findings)
	}
}

func TestMountOf(t *testing.T) {
	const table = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 22 8:2 / /srv rw - xfs /dev/sdb rw
25 24 0:9 / /srv/with\040space rw - tmpfs tmpfs rw
26 22 8:3 / /srv rw - ext4 /dev/sdc rw
`
	for path, want := range map[string]string{
		"/etc/x":               "/ ext4",
		"/srv":                 "/srv ext4",
		"/srv/shop/.env":       "/srv ext4",
		"/srv2/shop":           "/ ext4",
		"/srv/with space/.env": "/srv/with space tmpfs",
	} {
		at := mountOf(mountsIn(table), path)
		point, kind := at.point, at.kind
		if got := point + " " + kind; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// Before the first instance the ports are not shared, and nobody need know: it starts
// what shares them.
func TestHostBeforeTheFirstRun(t *testing.T) {
	for load, quiet := range map[string]bool{"loaded": true, "masked": false} {
		d := &Doctor{
			Machine: &rollout.Machine{Layout: units.Layout{Root: t.TempDir()}, Traffic: still{},
				Systemd: untold{units: []systemd.Unit{{Name: "app-rollout-ports.service", Load: load, Active: "inactive"}}}},
			apps: map[string]*units.Spec{"shop": {Plan: units.Plan{Port: 8080, ReusePort: true}}},
		}
		r := New()
		d.Host(context.Background(), r)
		said := slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return strings.Contains(f.Text, "port-sharing programs") || strings.Contains(f.Text, "tcp_migrate_req")
		})
		if said == quiet {
			t.Errorf("%s: %v", load, r.Findings)
		}
	}
}

// shared is PID 1 that has started what shares the ports.
type shared struct{ rollout.Systemd }

func (shared) Units(context.Context, ...string) ([]systemd.Unit, error) {
	return []systemd.Unit{{Name: "app-rollout-ports.service", Active: "active"}}, nil
}

type still struct{ kernel }

func (still) Migrates() bool { return false }

// What was started and is not in force is told, of ports only if an app leaves
// them to us.
func TestHost(t *testing.T) {
	const pins, migrates = "port-sharing programs are not in force", "tcp_migrate_req is off"
	for name, c := range map[string]struct {
		plan units.Plan
		want []string
		not  string
	}{
		"shares":      {units.Plan{Port: 8080, ReusePort: true}, []string{pins, migrates}, ""},
		"asks itself": {units.Plan{Port: 8080}, []string{migrates}, pins},
		"has no port": {units.Plan{ReusePort: true}, []string{migrates}, pins},
	} {
		d := &Doctor{
			Machine: &rollout.Machine{Layout: units.Layout{Root: t.TempDir()}, Systemd: shared{}, Traffic: still{}},
			apps:    map[string]*units.Spec{"shop": {Plan: c.plan}},
		}
		r := New()
		d.Host(context.Background(), r)
		said := ""
		for _, f := range r.Findings {
			said += f.String() + "\n"
		}
		for _, want := range c.want {
			if strings.Count(said, want) != 1 {
				t.Errorf("%s: %q is not said once:\n%s", name, want, said)
			}
		}
		if c.not != "" && strings.Contains(said, c.not) {
			t.Errorf("%s: %q is said:\n%s", name, c.not, said)
		}
		if !r.OK {
			t.Errorf("%s: advice is no error", name)
		}
	}
}

func TestSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-28-amd64": true, "5.14.0": true, "5.13.19": false, "5.4.0-1-generic": false, "4.19": false, "strange": true,
	} {
		if since(release, 5, 14) != want {
			t.Errorf("%s: %v", release, !want)
		}
	}
}

// askedFor notes which units are looked at.
type askedFor struct {
	noUnits
	patterns []string
}

func (a *askedFor) Units(_ context.Context, patterns ...string) ([]systemd.Unit, error) {
	a.patterns = append(a.patterns, patterns...)
	return nil, nil
}

// TestFileOfApp: what an app runs is not in the way of the file that its link leads to.
func TestFileOfApp(t *testing.T) {
	l := units.Layout{Root: t.TempDir()}
	file, program := l.Path("/srv/shop/.env"), l.Path("/usr/bin/shop")
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, nil, 0o755),
		os.WriteFile(file, []byte("SYSTEMD_EXEC_START=/usr/bin/shop\nPORT=3000\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for of, want := range map[string]string{"shop": "shop.service", "": "app.service"} {
		asked := &askedFor{}
		d := &Doctor{Machine: &rollout.Machine{Layout: l, Systemd: asked, Traffic: kernel{}}}
		d.File(t.Context(), New(), "app", "/srv/shop/.env", of)
		if !slices.Contains(asked.patterns, want) {
			t.Errorf("of %q: looked at %q, not at %s", of, asked.patterns, want)
		}
	}
}
