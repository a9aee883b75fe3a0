package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"app-rollout/rollout-helper/doctor"
	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units"
	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
	"app-rollout/units/store"
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
		{"app-rollout logs shop -n 5 -f blog", "app-rollout logs -n 5 -f shop blog"},
		{"app-rollout logs shop --lines=5", "app-rollout logs --lines=5 shop"},
		{"app-rollout logs shop -n", "app-rollout logs -n shop"},
		{"app-rollout logs shop -n5 -f", "app-rollout logs -n 5 -f shop"},
	} {
		if got := strings.Join(flagsFirst(strings.Fields(test.args)), " "); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Wrong usage is status 2.
func TestUsage(t *testing.T) {
	std := streams{screen.Plain(io.Discard), screen.Plain(io.Discard)}
	for _, args := range []string{"frob", "status --frob", "show", "show a b", "history", "rollback", "restart", "restart Shop", "run Shop", "run shop/x", "run shop --x", "swap a b", "swap --rollback", "swap --restart", "swap --boot --rollback shop", "swap --restart --rollback shop", "ports x", "check Shop", "logs Shop", "logs -n x", "logs shop -n -1", "logs shop -n"} {
		if got := run(t.Context(), "", append([]string{"app-rollout"}, strings.Fields(args)...), std); got != exitUsage {
			t.Errorf("app-rollout %s: status %d", args, got)
		}
	}
}

// A mistake in the arguments is one line, which says how the command is called.
func TestUsageLine(t *testing.T) {
	for args, want := range map[string]string{
		"run --foo":          "run has no option --foo; usage: app-rollout run [APP…]; see: app-rollout run --help",
		"run shop --foo=bar": "run has no option --foo; usage: app-rollout run [APP…]; see: app-rollout run --help",
		"status -x":          "status has no option -x; usage: app-rollout status [--json] [APP…]; see: app-rollout status --help",
		"--foo":              "app-rollout has no option --foo; see: app-rollout --help",
		"logs -n":            "the option -n of logs needs a value; usage: app-rollout logs [--follow] [--lines N] [APP…]; see: app-rollout logs --help",
		"logs -n x":          `the option -n of logs cannot be "x"; usage: app-rollout logs [--follow] [--lines N] [APP…]; see: app-rollout logs --help`,
		"show":               "show takes APP; see: app-rollout show --help",
		"frob":               `there is no command "frob"; see: app-rollout --help`,
	} {
		var out, err bytes.Buffer
		run(t.Context(), "", append([]string{"app-rollout"}, strings.Fields(args)...), streams{screen.Plain(&out), screen.Plain(&err)})
		if got := out.String() + err.String(); got != "app-rollout: "+want+"\n" {
			t.Errorf("app-rollout %s prints\n%swant\n%s", args, got, want)
		}
	}
}

// What status says of an .env promises nothing that a run would not do.
func TestPrintAsked(t *testing.T) {
	why := []problem.Problem{{Text: "the app is to move", Remedy: "stop it"}}
	for want, a := range map[string]status.App{
		"changed: PORT; a run refuses it: the app is to move; stop it": {Asked: status.Asked{State: status.Refused, Changed: []string{"PORT"}, Why: why}},
		"gone, and the app is stopped":                                 {State: "stopped", Asked: status.Asked{State: status.Gone}},
		"gone: the next run stops the app, if it still runs":           {State: "up", Asked: status.Asked{State: status.Gone}},
		"was rejected as generation 2: the app is to move; stop it; mend it, then: app-rollout run shop, which ends the hold": {Held: true,
			Asked: status.Asked{State: status.Rejected, Generation: 2, Why: why}},
	} {
		a.Name = "shop"
		if got, _ := asks(a); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A file that an app's link leads to is the app's, by whatever way.
func TestAppOf(t *testing.T) {
	l := units.Layout{Root: t.TempDir()}
	release := l.Path("/srv/shop/releases/1")
	err := errors.Join(os.MkdirAll(release, 0o755), os.WriteFile(release+"/.env", nil, 0o644), os.WriteFile(release+"/other", nil, 0o644),
		os.Symlink("releases/1", l.Path("/srv/shop/current")), os.MkdirAll(filepath.Dir(l.Env("shop")), 0o755), os.Symlink(release+"/.env", l.Env("shop")))
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/srv/shop/current/.env": "shop", "/srv/shop/releases/1/other": "", "/srv/shop/nothing": ""} {
		if got := appOf(l, []string{"blog", "shop"}, l.Path(file)); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
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

func TestPrintFindings(t *testing.T) {
	r := doctor.New()
	r.Refuse("shop", &units.Problem{Path: "/etc/app-rollout/shop.env", Line: 3, Text: "PORT must be a number"})
	var out bytes.Buffer
	printFindings(screen.Plain(&out), r)
	if out.String() != "/etc/app-rollout/shop.env:3: PORT must be a number\n" || r.OK {
		t.Errorf("%q", out.String())
	}
}

// The notes of status name what is off, and what to do about it, only while an app
// runs.
func TestPrintNotes(t *testing.T) {
	m := status.Machine{
		PortSharing: "off", PortSharingWhy: "no bpffs", PortSharingRemedy: "see: ports", PortSharingBuild: string(ports.Older), MigratesRemedy: "see: queue",
		Problems: []problem.Problem{{Path: "/etc/app-rollout/x", Text: "is no app", Remedy: "remove it"}},
		Hidden:   []status.Unseen{{What: "who listens", Problem: problem.Problem{Path: "/sys", Text: "is hidden", Remedy: "try sudo"}}},
	}
	const always, hidden = "/etc/app-rollout/x: is no app; remove it\n", "not seen: who listens: /sys: is hidden; try sudo\n"
	for state, between := range map[string]string{
		"stopped": "",
		"up": "port sharing is off (no bpffs): an app must set SO_REUSEPORT itself; see: ports\n" +
			"the programs that share the ports are of another version of this package: the next rollout replaces them\n" +
			"net.ipv4.tcp_migrate_req is off: a stopping instance loses what waits in its queue, unless traffic is steered; see: queue\n",
	} {
		var out bytes.Buffer
		printReport(screen.Plain(&out), &status.Report{Machine: m, Apps: []status.App{{Name: "shop", State: state}}})
		if _, got, _ := strings.Cut(out.String(), "\n\n"); got != always+between+hidden {
			t.Errorf("%s: printed\n%s", state, got)
		}
	}
}

// A damaged generation is on one line with what to do about it.
func TestHistoryOfDamaged(t *testing.T) {
	disk := store.Of(units.Layout{Root: t.TempDir()}, "shop")
	if err := os.MkdirAll(disk.Dir(1), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(disk.Dir(1), "generation.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := history(screen.Plain(&out), disk); err != nil {
		t.Fatal(err)
	}
	if want := "generation 1: " + path + ": is damaged; move its directory away to let the app be rolled out anew\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed\n%swant at its end\n%s", out.String(), want)
	}
}

// A rollout that failed is on one line, with what to do about it. Version 0.1.0 wrote
// that into the reason.
func TestHistoryOfFailed(t *testing.T) {
	disk := store.Of(units.Layout{Root: t.TempDir()}, "shop")
	for n, why := range map[int]string{
		1: `"reason":"shop@1.service ended; see: journalctl"`,
		2: `"reason":"shop@2.service ended","remedy":"see: journalctl"`,
	} {
		record(t, disk, n, `"rollout":{"result":"failed",`+why+`}`)
	}
	var out bytes.Buffer
	if err := history(screen.Plain(&out), disk); err != nil {
		t.Fatal(err)
	}
	want := "generation 1 failed: shop@1.service ended; see: journalctl\ngeneration 2 failed: shop@2.service ended; see: journalctl\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("printed\n%swant at its end\n%s", out.String(), want)
	}
}

// The last restart of a generation is on a line below it.
func TestHistoryOfRestarted(t *testing.T) {
	disk := store.Of(units.Layout{Root: t.TempDir()}, "shop")
	record(t, disk, 1, `"rollout":{"result":"ready"},"restart":{"result":"ready","seconds":3.21,"traffic":"steered","drained":0,"steps":[{"step":"hold","ms":2}]}`)
	record(t, disk, 2, `"rollout":{"result":"ready"},"restart":{"result":"failed","reason":"shop@3.service ended","remedy":"see: journalctl"}`)
	var out bytes.Buffer
	if err := history(screen.Plain(&out), disk); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{": ready in 3.2 s, traffic steered, 0 connections drained, 0 cut: hold 2 ms\n", "\nthe restart of generation 2 failed: shop@3.service ended; see: journalctl\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("printed\n%swithout\n%s", out.String(), want)
		}
	}
}

// What became of connections stands in columns, and all of the table is to be seen in a
// terminal of 80 columns.
func TestHistoryOfConnections(t *testing.T) {
	disk := store.Of(units.Layout{Root: t.TempDir()}, "shop")
	record(t, disk, 9, `"rollout":{"result":"ready","seconds":3610.5,"traffic":"steered","drained":120,"told":117,"untold":2,"closed":41,"cut":3,"streams":2,"migrated":5,"steps":[`+
		strings.TrimSuffix(strings.Repeat(`{"step":"watch","ms":3005},`, 9), ",")+`]}`)
	record(t, disk, 10, `"rollout":{"result":"failed","seconds":3.2,"traffic":"plain","drained":1,"told":2}`)
	var out bytes.Buffer
	if err := history(screen.Terminal(&out, 80), disk); err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`[0-9-]{10} [0-9:]{5}`).ReplaceAllString(regexp.MustCompile(`\x1b\[\d*m`).ReplaceAllString(out.String(), ""), "YYYY-MM-DD hh:mm")
	for _, want := range []string{
		"GEN  WHEN              NODES  RESULT  TOOK      TOLD  LEFT  REST  CUT\n9    YYYY-MM-DD hh:mm  1      ready   3610.5 s  117   3     41    3\n",
		"\n  changed: -; traffic steered, 120 connections drained, 117 told to close, 2\n    answers could not tell, 41 closed at rest, 3 cut (streams: 2), 5 migrated\n    (of the whole machine)\n",
		"\n10   YYYY-MM-DD hh:mm  1      failed  3.2 s     2     0     0     0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("printed\n%swithout\n%s", text, want)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

// record puts a generation into a store. Only what the record says of it is known.
func record(t *testing.T, disk store.Store, n int, says string) {
	t.Helper()
	recordOf(t, disk, "shop", n, says)
}

func recordOf(t *testing.T, disk store.Store, app string, n int, says string) {
	t.Helper()
	if err := os.MkdirAll(disk.Dir(n), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"app":%q,"generation":%d,"digest":"d","mode":0,"nodes":1,%s}`, app, n, says)
	for name, text := range map[string]string{"generation.json": text, "env": "", "unit": "", "environment": ""} {
		if err := os.WriteFile(filepath.Join(disk.Dir(n), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
