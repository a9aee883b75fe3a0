//go:build story

package test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// shop is the .env of the stories' app: the Go server, which knows nothing of
// SO_REUSEPORT, in two instances. Later lines win.
func shop(lines ...string) string {
	return strings.Join(append([]string{
		"SYSTEMD_CLUSTER_MODE=1",
		"SYSTEMD_CLUSTER_NODES=2",
		"SYSTEMD_CLUSTER_WATCH_SEC=1",
		"SYSTEMD_EXEC_START=/opt/apps/server",
		"PORT=8080",
	}, lines...), "\n") + "\n"
}

// run rolls out and returns what it said, and its status.
func run(m *machine.Machine, apps ...string) machine.Result {
	return m.Run(context.Background(), "app-rollout", append([]string{"run"}, apps...)...)
}

// deploys rolls out and fails the test if that fails.
func deploys(t *testing.T, m *machine.Machine, apps ...string) string {
	t.Helper()
	r := run(m, apps...)
	if r.Code != 0 {
		t.Fatalf("app-rollout run %s: status %d\n%s%s", strings.Join(apps, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// instances are the app's units that run.
func instances(m *machine.Machine, app string) string {
	return strings.Join(strings.Fields(m.Sh("systemctl list-units --plain --no-legend --state=active,activating,deactivating '"+app+"@*.service' '"+app+".service' | cut -d' ' -f1 | sed s/.service//")), " ")
}

// want fails the test unless exactly these instances run.
func want(t *testing.T, m *machine.Machine, app, units string) {
	t.Helper()
	if got := instances(m, app); got != units {
		t.Fatalf("%q run, want %q", got, units)
	}
}

// nothingLost fails the test if a client noticed anything.
func nothingLost(t *testing.T, report *load.Report) {
	t.Helper()
	t.Logf("clients: %v", report)
	if report.Lost() > 0 || report.Answered() == 0 {
		t.Errorf("%d of %d lost: %v", report.Lost(), report.Lost()+report.Answered(), report.Failures)
	}
}

// transcript is what the README says that a run of shop prints.
func transcript(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(machine.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(string(readme)) {
		if text, ok := strings.CutPrefix(b.text, "# app-rollout run shop\n"); ok {
			return strings.TrimSpace(text)
		}
	}
	t.Fatal("the README shows no run")
	return ""
}

// timeless leaves out how long things took.
func timeless(said string) string {
	return regexp.MustCompile(`[0-9.]+( s\b| ms\b|, )`).ReplaceAllString(said, "…$1")
}

// TestWholePath is the README's first screen and what follows it: install, one
// .env, run, three rollouts under load, a reboot.
func TestWholePath(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)}})
			m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g1"), 0o644)
			m.Must("systemctl", "start", "app-rollout.service")
			want(t, m, "shop", "shop@1 shop@2")
			if said, promised := deploys(t, m, "shop"), transcript(t); timeless(said) != timeless(promised) {
				t.Errorf("the README shows\n%s\nbut it is\n%s", promised, said)
			}
			want(t, m, "shop", "shop@3 shop@4")

			client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 16, Timeline: true})
			m.Wait("answers", 10*time.Second, func() bool { return client.Answered() > 100 })
			for i, units := range []string{"shop@5 shop@6", "shop@7 shop@8", "shop@10 shop@9"} { // in systemctl's order
				m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g"+string(rune('2'+i))), 0o644)
				m.Must("systemctl", "start", "app-rollout.service")
				want(t, m, "shop", units)
			}
			nothingLost(t, client.Stop())
			t.Log(m.Must("app-rollout", "status"))
			t.Log(m.Must("app-rollout", "history", "shop"))

			m.Reboot()
			want(t, m, "shop", "shop@1 shop@2")
			m.Wait("boot service", 20*time.Second, func() bool { return m.Property("app-rollout-boot.service", "ActiveState") == "active" })
			want(t, m, "shop", "shop@1 shop@2")
			t.Log(m.Must("app-rollout", "status"))
		})
	}
}
