package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/rollout"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
	"app-rollout/units/dotenv"
	"app-rollout/units/step"
	"app-rollout/units/store"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

// scripted is PID 1 with a few units.
type scripted struct {
	rollout.Systemd
	units []systemd.Unit
	err   error
}

func (s scripted) Units(_ context.Context, patterns ...string) ([]systemd.Unit, error) {
	var found []systemd.Unit
	for _, u := range s.units {
		for _, p := range patterns {
			if ok, _ := filepath.Match(p, u.Name); ok {
				if u.MainPID > 0 {
					u.ControlGroup = "/app.slice/" + u.Name
				}
				found = append(found, u)
			}
		}
	}
	return found, s.err
}

// kernel is one in which the control group of instance n has the id n.
type kernel struct {
	rollout.Traffic
	listeners []sockets.Listener
	loses     bool // net.ipv4.tcp_migrate_req is off
}

func (k kernel) Migrates() bool { return !k.loses }
func (k kernel) Look() (*sockets.View, error) {
	return sockets.NewView(k.listeners, func(path string) (map[uint64]bool, error) {
		i, _ := units.ParseInstance(filepath.Base(path))
		return map[uint64]bool{uint64(i.Number): true}, nil
	}, nil), nil
}

const secret = "c4n4ryS3cret"

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// machine is one on which shop runs as generation 1 and is asked for something
// else that failed as generation 2, and blog was never right.
func machine(t *testing.T) Eyes {
	l := units.Layout{Root: t.TempDir()}
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		path = l.Path(path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	freeze := func(text string) *store.Generation {
		t.Helper()
		write(units.EtcDir+"/shop.env", text, 0o600)
		spec, err := l.Read("shop")
		if err != nil {
			t.Fatal(err)
		}
		g, err := store.Of(l, "shop").Freeze(spec, at)
		if err != nil {
			t.Fatal(err)
		}
		g.Rollout = &store.Receipt{Started: at, Seconds: 2, Traffic: rollout.Steered, Counts: &store.Counts{}, Steps: []store.Step{{Name: step.Start, Milliseconds: 500}, {Name: step.Commit, Milliseconds: 500}, {Name: step.Drain, Milliseconds: 1000}}}
		return g
	}
	if err := os.MkdirAll(l.Path(units.StateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	write("/usr/bin/shop", "", 0o755)
	write(units.EtcDir+"/blog.env", "SYSTEMD_EXEC_START=/usr/bin/blog\nPASSWORD="+secret, 0o600)
	write(units.EtcDir+"/readme", "", 0o644)
	text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPORT=8080\nPASSWORD="
	g := freeze(text + "1")
	g.Rollout.Result, g.Rollout.Drained = "ready", 7
	if err := store.Of(l, "shop").Commit(g); err != nil {
		t.Fatal(err)
	}
	g = freeze(text + secret)
	g.Rollout.Result, g.Rollout.Reason = "failed", "shop@3.service exited with status 3"
	g.Rollout.Remedy = "see: journalctl -b -u shop@3.service"
	if err := store.Of(l, "shop").Reject(g); err != nil {
		t.Fatal(err)
	}
	source := func(n string) string { return units.StateDir + "/shop/generations/" + n + "/env" }
	group := sockets.Group{Addr: netip.MustParseAddrPort("127.0.0.1:8080")}
	other := sockets.Group{Addr: netip.MustParseAddrPort("127.0.0.1:9090")}
	return Eyes{
		Machine: &rollout.Machine{
			Layout: l,
			Systemd: scripted{units: []systemd.Unit{
				{Name: "shop@1.service", Active: "active", Sub: "running", MainPID: 11, Since: at, Source: source("1"), Memory: 1 << 20},
				{Name: "shop@2.service", Active: "activating", Sub: "auto-restart", Restarts: 4, Since: at, Source: source("1")},
				{Name: "shop@x.service", Active: "active", MainPID: 13},
			}},
			Traffic: kernel{listeners: []sockets.Listener{
				{Group: group, Cgroup: 1}, {Group: other, Cgroup: 1}, {Group: group, Cgroup: 99},
			}},
		},
		Connections: func(ports ...uint16) ([]sockets.Connection, error) {
			if len(ports) != 1 || ports[0] != 8080 {
				t.Errorf("asked for the connections of the ports %d", ports)
			}
			return []sockets.Connection{{Cgroup: 1}, {Cgroup: 1}, {Cgroup: 99}, {HalfOpen: true}}, nil
		},
	}
}

func encode(t *testing.T, r *Report) []byte {
	t.Helper()
	r.Machine.PortSharing, r.Machine.PortSharingWhy = "off", "as the test is"
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// The JSON is what it was: programs read it.
func TestReport(t *testing.T) {
	report, err := machine(t).Report(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if g := report.Apps[1].Generation; os.Geteuid() != 0 {
		g.User = "ar-shop" // which it is in a file of root's
	}
	got := encode(t, report)
	if bytes.Contains(got, []byte(secret)) {
		t.Errorf("the report has a value of a variable:\n%s", got)
	}
	const golden = "testdata/report.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant %s\n%s", got, golden, want)
	}
}

// A run under way is told, and the shares are not known then.
func TestUnderWay(t *testing.T) {
	for name, service := range map[string]systemd.Unit{
		"its own": {Name: "app-rollout@shop.service", Active: "activating", Since: at, Status: "shop: watching"},
		"back":    {Name: "app-rollout-rollback@shop.service", Active: "activating", Since: at, Status: "shop: watching"},
		"mended":  {Name: "app-rollout-recover@shop.service", Active: "activating", Since: at, Status: "shop: watching"},
		"all":     {Name: "app-rollout.service", Active: "deactivating", Since: at, Status: "shop: watching"},
	} {
		e := machine(t)
		s := e.Systemd.(scripted)
		s.units = append(s.units, service)
		e.Systemd = s
		report, err := e.Report(context.Background(), []string{"shop"})
		if err != nil {
			t.Fatal(err)
		}
		a := report.Apps[0]
		if a.UnderWay == nil || a.UnderWay.Service != service.Name || a.UnderWay.Says != "shop: watching" {
			t.Errorf("%s: %+v", name, a.UnderWay)
		}
		for _, i := range a.Instances {
			if i.Share != nil {
				t.Errorf("%s: %s has a share", name, i.Unit)
			}
		}
	}
}

// What a run would refuse is not promised.
func TestRefused(t *testing.T) {
	e := machine(t)
	text := "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/shop\nPASSWORD=1\nPORT="
	for port, want := range map[string]string{"8080": Pending, "9090": Refused} {
		if err := os.WriteFile(e.Layout.Env("shop"), []byte(text+port), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := e.Report(context.Background(), []string{"shop"})
		if err != nil {
			t.Fatal(err)
		}
		a := report.Apps[0].Asked
		if a.State != want || (len(a.Why) > 0) != (want == Refused) {
			t.Errorf("%s: %+v", port, a)
		}
		for _, p := range a.Why {
			if !strings.Contains(p.Text, "is to listen on port 9090, but listens on 8080") || !strings.HasSuffix(p.Remedy, "then: app-rollout run shop") {
				t.Errorf("%s: %+v", port, p)
			}
		}
	}
}

// Without systemd the rest is told, and what is missing.
func TestUnreachable(t *testing.T) {
	e := machine(t)
	e.Systemd = scripted{err: errors.New("no bus")}
	report, err := e.Report(context.Background(), []string{"shop"})
	if err != nil {
		t.Fatal(err)
	}
	a := report.Apps[0]
	if len(report.Machine.Hidden) != 1 || len(a.Hidden) != 1 || a.Generation == nil || a.Asked.State != Rejected {
		t.Errorf("%+v\n%+v", report.Machine, a)
	}
}

func TestState(t *testing.T) {
	up, down := Instance{Active: "active", Generation: 1}, Instance{Active: "activating", Generation: 1}
	old := Instance{Active: "active", Generation: 9}
	for _, test := range []struct {
		nodes     int
		instances []Instance
		state     string
		says      string
	}{
		{2, nil, "stopped", "stopped"},
		{2, []Instance{up, up}, "up", "2 of 2 instances are up"},
		{2, []Instance{up, down}, "degraded", "1 of 2 instances are up"},
		{2, []Instance{up}, "degraded", "1 of 2 instances are up"},
		{2, []Instance{down, down}, "down", "0 of 2 instances are up"},
		{1, []Instance{up}, "up", "1 instance is up"},
		{1, []Instance{down}, "down", "its instance is down"},
		{2, []Instance{up, up, old}, "up", "3 of 3 instances are up"},
	} {
		a := App{Nodes: test.nodes, Instances: test.instances, Generation: &Generation{Number: 1}}
		a.State = state(a)
		if a.State != test.state || a.Says() != test.says {
			t.Errorf("%+v: %q, %q", test, a.State, a.Says())
		}
	}
}

// The page describes every field.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../packaging/man/app-rollout.1")
	if err != nil {
		t.Fatal(err)
	}
	_, schema, _ := strings.Cut(string(page), ".SH JSON")
	words := make(map[string]bool)
	for _, w := range strings.FieldsFunc(schema, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		words[w] = true
	}
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if !of.Field(i).Anonymous && !words[name] {
				t.Errorf("app-rollout(1) does not describe %s of %s", name, of.Name())
			}
			walk(of.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Report]())
}

// What is off comes with what to do about it, and what is on without.
func TestMachineRemedies(t *testing.T) {
	for _, loses := range []bool{false, true} {
		e := Eyes{Machine: &rollout.Machine{Layout: units.Layout{Root: t.TempDir()}, Traffic: kernel{loses: loses}}}
		m := e.machine()
		if m.PortSharing != "off" || m.PortSharingRemedy != seePorts {
			t.Errorf("port sharing is %s: %q", m.PortSharing, m.PortSharingRemedy)
		}
		if m.Migrates == loses || (m.MigratesRemedy == seePorts) != loses {
			t.Errorf("migrates: %v, %q", m.Migrates, m.MigratesRemedy)
		}
	}
}
