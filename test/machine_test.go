//go:build story

package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// TestMachine tests what the other stories rely on: a command runs inside the machine,
// a reboot and a power cut keep its disk and nothing else, and the load client uses
// its network.
func TestMachine(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		on.Files = map[string]string{"/etc/planted": "before\n"}
		m := machine.Boot(t, on)
		if got := m.Read("/etc/planted"); got != "before" {
			t.Errorf("planted file: %q", got)
		}
		if got := m.Sh("cat /proc/1/comm; . /etc/os-release; echo $VERSION_CODENAME; grep ^0: /proc/self/cgroup"); got != "systemd\n"+on.Release+"\n0::/init.scope" {
			t.Errorf("inside: %q", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if r := m.Run(ctx, "sleep", "60"); r.Code != 128+9 || r.Took > 10*time.Second {
			t.Errorf("a command past its deadline: %+v", r)
		}
		if r := m.Run(context.Background(), "sh", "-c", "echo out; echo err >&2; exit 7"); r.Code != 7 || r.Out != "out" || r.Err != "err" {
			t.Errorf("a failing command: %+v", r)
		}

		m.Sh("systemd-run --unit=web python3 -m http.server --bind 127.0.0.1 8080")
		client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 2, Timeline: true})
		m.Wait("100 answers", 20*time.Second, func() bool { return client.Answered() >= 100 })
		report := client.Stop()
		t.Logf("load: %v", report)
		if report.Answered() < 100 || len(report.Answers) != report.Answered() {
			t.Errorf("load: %v, %d in the time line", report, len(report.Answers))
		}
		if report.Kinds[load.Refused] == 0 {
			t.Logf("the server was up before the first attempt")
		}

		for _, how := range []func(){func() { m.Reboot() }, func() { m.Kill(); m.PowerOn() }, func() { m.PowerOff(); m.PowerOn() }} {
			m.Write("/etc/kept", "kept\n", 0o600)
			m.Write("/run/gone", "gone\n", 0o600)
			boot := m.Read("/proc/sys/kernel/random/boot_id") // each boot has its own
			start := time.Now()
			how()
			t.Logf("up again after %v", time.Since(start).Round(time.Millisecond))
			if m.Exists("/run/gone") || m.Read("/etc/kept") != "kept" || m.Read("/proc/sys/kernel/random/boot_id") == boot {
				t.Errorf("after a restart: /run kept, or /etc not")
			}
			if units := m.Sh("systemctl list-units --no-legend web.service"); strings.Contains(units, "running") {
				t.Errorf("after a restart: %s", units)
			}
		}
	})
}
