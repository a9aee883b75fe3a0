package units

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"app-rollout/units/dotenv/dotenvtest"
)

// ask checks an .env of root's, or of alice's, in /srv/shop.
func ask(l Layout, uid int, text string) (*Spec, error) {
	user := "root"
	if uid != 0 {
		user = "alice"
	}
	return l.Check(&Source{App: "shop", Path: "/srv/shop/.env", Linked: true, UID: uint32(uid), GID: uint32(uid), User: user, Text: []byte(text), released: true})
}

func shopTree(t testing.TB) Layout {
	return tree(t, map[string]string{
		"/etc/passwd":           passwd,
		"/etc/group":            groups,
		"/srv/shop/.env":        "",
		"/srv/shop/bin/app":     "#!",
		"/srv/shop/data/x":      "",
		"/srv/shop/plain":       "no program",
		"/srv/shop/out":         "-> /srv/other",
		"/srv/shop/venv/python": "-> /usr/bin/app",
		"/srv/other/x":          "",
		"/srv/a b/x":            "",
		"/usr/bin/app":          "#!",
		"/usr/bin/sh":           "#!",
		"/bin":                  "-> usr/bin",
	})
}

const run = "SYSTEMD_EXEC_START=/usr/bin/app\n"

// All that is wrong is said at once, in the order of the lines.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := ask(shopTree(t), alice, "SYSTEMD_GROUP=x\nPORT=80\nSYSTEMD_X=1\nSYSTEMD_CLUSTER_NODES=0\nSYSTEMD_CLUSTER_HEALTH_PATH=/up\n")
	var got []string
	for _, line := range lines(err) {
		where, _, _ := strings.Cut(line, " ")
		got = append(got, strings.TrimPrefix(where, "/srv/shop/.env:"))
	}
	if want := []string{"", "1:", "2:", "3:", "4:", "5:"}; !slices.Equal(got, want) {
		t.Errorf("at %q, not %q:\n%s", got, want, err)
	}
}

// chownTree gives a directory's files to alice, as far as the test may.
func chownTree(t *testing.T, dir string) {
	if os.Getuid() != 0 {
		return
	}
	for _, name := range []string{"", ".env", "data", "data/x"} {
		if err := os.Lchown(dir+"/"+name, alice, alice); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlan(t *testing.T) {
	l := shopTree(t)
	defer func(n func() int) { cpus = n }(cpus)
	cpus = func() int { return 3 }
	def := Plan{Mode: 0, Nodes: 1, ReusePort: true, ReadySec: 60, WatchSec: 3, DrainSec: 30, TimeoutStopSec: 30,
		Type: "exec", User: "ar-shop", WorkingDirectory: "/srv/shop"}
	for line, change := range map[string]func(*Plan){
		"":                        func(p *Plan) {},
		"SYSTEMD_CLUSTER_NODES=7": func(p *Plan) {}, // mode 0 has one
		"SYSTEMD_CLUSTER_MODE=1":  func(p *Plan) { p.Mode, p.Nodes = 1, 2 },
		"SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=auto":                                         func(p *Plan) { p.Mode, p.Nodes = 1, 3 },
		"SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256":                                          func(p *Plan) { p.Mode, p.Nodes = 1, 256 },
		"PORT=3000\nSYSTEMD_CLUSTER_HEALTH_PATH=/up?x=1":                                             func(p *Plan) { p.Port, p.HealthPath = 3000, "/up?x=1" },
		"SYSTEMD_CLUSTER_MODE=yes":                                                                   func(p *Plan) { p.Mode, p.Nodes = 1, 2 },
		"SYSTEMD_CLUSTER_MODE=FALSE":                                                                 func(p *Plan) {},
		"SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=leave":                                                      func(p *Plan) { p.LeaveKeepalive = true },
		"SYSTEMD_CLUSTER_DRAIN_UNTIL=closed":                                                         func(p *Plan) { p.DrainClosed = true },
		"SYSTEMD_CLUSTER_DRAIN_UNTIL=answered":                                                       func(p *Plan) {},
		"SYSTEMD_CLUSTER_BALANCE=leastconn":                                                          func(p *Plan) { p.Balanced = true },
		"SYSTEMD_CLUSTER_BALANCE=hash":                                                               func(p *Plan) {},
		"SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=close":                                                      func(p *Plan) {},
		"PORT=3000\nSYSTEMD_CLUSTER_HEALTH_PATH=/up\nSYSTEMD_CLUSTER_HEALTH_HOST=[::1]:3000":         func(p *Plan) { p.Port, p.HealthPath, p.HealthHost = 3000, "/up", "[::1]:3000" },
		"SYSTEMD_CLUSTER_REUSE_PORT=0":                                                               func(p *Plan) { p.ReusePort = false },
		"SYSTEMD_CLUSTER_READY_SEC=600\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_CLUSTER_DRAIN_SEC=3600": func(p *Plan) { p.ReadySec, p.WatchSec, p.DrainSec = 600, 0, 3600 },
		"SYSTEMD_TIMEOUT_STOP_SEC=1500ms":                                                            func(p *Plan) { p.TimeoutStopSec = 2 },
		"SYSTEMD_TYPE=notify\nSYSTEMD_USER=alice":                                                    func(p *Plan) { p.Type, p.User = "notify", "alice" },
	} {
		s, err := ask(l, 0, run+line+"\n")
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		want := def
		if change(&want); s.Plan != want {
			t.Errorf("%s: plan is %+v, want %+v", line, s.Plan, want)
		}
	}
}

func TestSettingsTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Settings() {
		if seen[s.Name] || s.Help == "" || (s.Directive == "") != (s.Section == "") {
			t.Errorf("%+v", s)
		}
		if (s.Default == "") == (s.Otherwise == "") {
			t.Errorf("%s: has both kinds of default or none", s.Name)
		}
		if (s.apply == nil) == (s.decide == nil) {
			t.Errorf("%s: is checked in two ways or in none", s.Name)
		}
		seen[s.Name] = true
	}
}

// The digest changes with everything that is frozen, and with nothing else.
func TestDigest(t *testing.T) {
	l := shopTree(t)
	spec := func(uid int, text string) *Spec {
		s, err := ask(l, uid, run+text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\n")
	if same := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\n"); same.Digest() != base.Digest() || same.Unsized() != base.Unsized() {
		t.Error("the same .env has another digest")
	}
	// As 0.1.0 froze it: no app counts as changed because the package was upgraded.
	for text, old := range map[string]string{
		"": "e5e4c180cb4761372a6059268c76702e46889115acd6d7489a4da3cf54f0a411",
		"SYSTEMD_CLUSTER_MODE=1\nPORT=3000\nSYSTEMD_CLUSTER_HEALTH_PATH=/up\nSYSTEMD_PRIVATE_DEVICES=no\nSYSTEMD_READ_WRITE_PATHS=/srv/shop/data\n": "0cb7e65352eb898920ccaac5c47ea596c47974da0639892abacb8898a0a822e2",
	} {
		if got := spec(0, text).Digest(); got != old {
			t.Errorf("%q: the digest is not that of 0.1.0", text)
		}
	}
	for _, text := range []string{"A=2\nSYSTEMD_CLUSTER_MODE=1\n", "A=1\n", "A=1\nSYSTEMD_CLUSTER_MODE=1\nPORT=3000\n", "A=1\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_USER=alice\n"} {
		if s := spec(0, text); s.Digest() == base.Digest() || s.Unsized() == base.Unsized() {
			t.Errorf("%q has the same digest", text)
		}
	}
	sized := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=5\n")
	if sized.Digest() == base.Digest() || sized.Unsized() != base.Unsized() {
		t.Error("another number of nodes is not told apart, or is more than that")
	}
	moved := *base
	moved.Plan.WorkingDirectory = "/srv/other"
	if moved.Digest() == base.Digest() {
		t.Error("another directory has the same digest")
	}
}

func TestDynamicUser(t *testing.T) {
	users := map[string]string{}
	for _, app := range []string{"root", "80", "backup", strings.Repeat("x", 28), strings.Repeat("x", 29), strings.Repeat("x", 200), strings.Repeat("x", 201)} {
		u := dynamicUser(app)
		if !accountName(u) || len(u) > 31 || !strings.HasPrefix(u, "ar-") {
			t.Errorf("%s runs as %s", app, u)
		}
		users[u] = app
	}
	if len(users) != 7 {
		t.Errorf("apps share users: %v", slices.Sorted(maps.Keys(users)))
	}
}

func TestWarnings(t *testing.T) {
	l := shopTree(t)
	s, err := ask(l, 0, "SECRET='"+dotenvtest.Canary+"'\nSYSTEMD_EXEC_START=/usr/bin/app $SECRET /bin/app\nPATH=/x\nLD_PRELOAD=/x\nSYSTEMD_USER=root\nSYSTEMD_RESTART=on-failure\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range s.Warnings {
		got = append(got, w.Error())
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{":2: SYSTEMD_EXEC_START has a $", ":2: SYSTEMD_EXEC_START has a variable replaced", ":2: SYSTEMD_EXEC_START has a path that leads through a link",
		":3: PATH", ":4: LD_PRELOAD", ":5: SYSTEMD_USER makes the app run as root", ":6: SYSTEMD_RESTART"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if !slices.IsSortedFunc(s.Warnings, func(a, b *Problem) int { return a.Line - b.Line }) {
		t.Errorf("not in the order of the lines:\n%s", all)
	}
	if strings.Contains(all, dotenvtest.Canary) {
		t.Error("a value stands in a warning")
	}
}

// What only a shell understands, and where its scripts lead, is warned of by line.
func TestShellWarnings(t *testing.T) {
	l := shopTree(t)
	for command, want := range map[string]string{
		`/usr/bin/app >/srv/log 2>&1`:                      "has a > or <",
		`'/bin/app "cd /srv && x"'`:                        "",
		`'/usr/bin/sh -c "cd /srv/shop/out && exec ./x"'`:  "has a cd that leads through a link",
		`'/usr/bin/sh -c "cd /srv/shop/data && exec ./x"'`: "",
		`'/usr/bin/sh -c "exec /srv/shop/out/x"'`:          "has a path that leads through a link",
	} {
		s, err := ask(l, 0, "A=1\nSYSTEMD_EXEC_START="+command+"\n")
		if err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		got := ""
		for _, w := range s.Warnings {
			if w.Line == 2 {
				got += w.Error()
			}
		}
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// Only code that lies in place is warned of.
func TestReleased(t *testing.T) {
	l := tree(t, map[string]string{
		"/etc/app-rollout/place.env":   "-> /srv/place/.env",
		"/etc/app-rollout/release.env": "-> /srv/release/current/.env",
		"/etc/app-rollout/given.env":   run + "SYSTEMD_WORKING_DIRECTORY=/srv/release/current\n",
		"/etc/app-rollout/root.env":    run,
		"/srv/place/.env":              run,
		"/srv/release/current":         "-> releases/1",
		"/srv/release/releases/1/.env": run,
		"/usr/bin/app":                 "#!",
	})
	for app, want := range map[string]bool{"place": true, "release": false, "given": false, "root": false} {
		if os.Getuid() != 0 {
			continue // the trees are root's
		}
		s, err := l.Read(app)
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, w := range s.Warnings {
			got = got || strings.Contains(w.Text, "is not deployed as a release")
		}
		if got != want {
			t.Errorf("%s: warned: %t", app, got)
		}
	}
}

// A user whose name is a number runs as what it is, not as that number.
func TestNumericName(t *testing.T) {
	l := shopTree(t)
	chownTree(t, l.Path("/srv/shop"))
	for name, want := range map[string]string{"alice": "alice", "0": fmt.Sprint(alice), "80": fmt.Sprint(alice), "al ice": fmt.Sprint(alice), "": fmt.Sprint(alice)} {
		s, err := l.Check(&Source{App: "shop", Path: "/srv/shop/.env", Linked: true, UID: uint32(alice), User: name, Text: []byte(run)})
		if err != nil || s.Plan.User != want {
			t.Errorf("%q: %v %+v", name, err, s)
		}
	}
	_, err := l.Check(&Source{App: "shop", Path: "/.env", UID: 1<<32 - 1, Text: []byte(run)})
	if got := strings.Join(lines(err), "\n"); !strings.Contains(got, "SYSTEMD_USER has no user") {
		t.Errorf("a file of nobody's: %s", got)
	}
}

// TestNearest: a name is suggested only if it is near; a part that many names have in
// common makes no name near.
func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"NODES": "CLUSTER_NODES", "CLUSTER_NODE": "CLUSTER_NODES", "MODE": "CLUSTER_MODE", "START": "EXEC_START", "EXECSTART": "EXEC_START",
		"USERNAME": "USER", "TYP": "TYPE", "RESTART_SECS": "RESTART_SEC", "HOST": "CLUSTER_HEALTH_HOST", "CLUSTER_HOST": "CLUSTER_HEALTH_HOST",
		"FOO": "", "X": "", "CLUSTER": "", "CLUSTER_": "", "CLUSTER_TIMEOUT": "", "LOG_LEVEL": "", "ENVIRONMENT": "", "PAGER": "", "": "",
	} {
		if want != "" {
			want = prefix + want
		}
		if got := nearest(prefix + name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"PORT", "CLUSTER_PORT"} {
		if got := nearest(prefix + name); got != "PORT" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestSwitches: each setting that is a switch takes all words that systemd takes for one,
// and the words of a side mean the same.
func TestSwitches(t *testing.T) {
	l := shopTree(t)
	switches := 0
	for _, set := range settings {
		_, err := ask(l, 0, run+set.Name+"=perhaps\n")
		if !strings.Contains(fmt.Sprint(err), "1, yes, true") {
			continue
		}
		switches++
		for _, side := range [][]string{{"1", "yes", "true", "on", "TRUE", "Yes"}, {"0", "no", "false", "off", "Off"}} {
			first := ""
			for _, word := range side {
				s, err := ask(l, 0, run+"SYSTEMD_USER=alice\n"+set.Name+"="+word+"\n")
				if err != nil {
					t.Errorf("%s=%s: %v", set.Name, word, err)
					continue
				}
				asks := fmt.Sprint(s.Plan, s.directives)
				if first = cmp.Or(first, asks); asks != first {
					t.Errorf("%s=%s means\n%s\nand %s\n%s", set.Name, word, asks, side[0], first)
				}
			}
		}
	}
	if switches < 5 {
		t.Errorf("only %d switches were found", switches)
	}
}
