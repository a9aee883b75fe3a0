//go:build story

package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestReloads: a rollout makes systemd read all its units anew only when the
// instances that it replaces are wanted by the boot's target, as those that the
// boot has started are.
func TestReloads(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Layers: []string{machine.Apps(t)},
				Files: map[string]string{"/etc/app-rollout/shop.env": shop("GENERATION=good")}})
			m.Reboot()
			booted(m)
			bad := shop("GENERATION=bad", "EXIT_AT_START=1")
			for at, c := range []struct {
				env, serves string
				reloads     bool
			}{
				{shop("GENERATION=g2"), "shop@3 shop@4", true},
				{shop("GENERATION=g3"), "shop@5 shop@6", false},
				{bad, "shop@5 shop@6", false},
				{shop("GENERATION=g3"), "shop@10 shop@9", false},
			} {
				if at == 2 {
					// What they would make of it now wants no more than before.
					m.Must("systemctl", "daemon-reload")
				}
				m.Write("/etc/app-rollout/shop.env", c.env, 0o644)
				before := reloads(m)
				if r := run(m, "shop"); (r.Code != 0) != (c.env == bad) {
					t.Errorf("rollout %d: status %d: %s%s", at, r.Code, r.Out, r.Err)
				}
				want(t, m, "shop", c.serves)
				if got := reloads(m) - before; got > 0 != c.reloads {
					t.Errorf("rollout %d reloads systemd %d times", at, got)
				}
				nothingLeft(t, m, c.serves)
			}
			if got := m.Property("shop@9.service", "NeedDaemonReload"); got != "no" {
				t.Errorf("NeedDaemonReload=%s", got)
			}
		})
	}
}

// reloads is how often systemd's generators have run since the machine is up.
func reloads(m *machine.Machine) int {
	m.Must("journalctl", "--sync")
	return strings.Count(m.Must("journalctl", "-b", "-o", "cat", "_PID=1"), "Reload")
}

// TestTargets: an isolate leaves alone what a rollout has started, as it does
// what the boot has; but one for repairs stops it, and the way back brings it up
// again. So does a soft-reboot, which keeps /run.
func TestTargets(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Release: "trixie", Install: true, Layers: []string{machine.Apps(t)},
		Files: map[string]string{"/etc/app-rollout/shop.env": shop("GENERATION=good")}})
	m.Reboot()
	booted(m)
	deploys(t, m, "shop")
	deploys(t, m, "shop")
	pids := m.Property("shop@5.service", "MainPID") + m.Property("shop@6.service", "MainPID")
	for _, do := range [][]string{{"isolate", "multi-user.target"}, {"start", "multi-user.target"}} {
		m.Must("systemctl", do...)
		want(t, m, "shop", "shop@5 shop@6")
		if now := m.Property("shop@5.service", "MainPID") + m.Property("shop@6.service", "MainPID"); now != pids {
			t.Errorf("%v: started anew", do)
		}
	}

	for _, target := range []string{"rescue.target", "emergency.target"} {
		m.Run(context.Background(), "systemctl", "isolate", "--no-block", target)
		m.Wait("the stop of the app", 20*time.Second, func() bool {
			return m.Property(target, "ActiveState") == "active" && m.Property("shop@5.service", "ActiveState") == "inactive"
		})
		m.Must("systemctl", "isolate", "default.target")
		booted(m)
		want(t, m, "shop", "shop@5 shop@6")
		answersOnly(t, m, "good")
	}
	deploys(t, m, "shop")
	want(t, m, "shop", "shop@7 shop@8")
	deploys(t, m, "shop")

	before := m.Property("shop@9.service", "InvocationID")
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=bad", "EXIT_AT_START=1"), 0o644)
	if r := run(m, "shop"); r.Code != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	m.SoftReboot()
	m.Wait("the boot", 60*time.Second, func() bool {
		id := m.Run(context.Background(), "systemctl", "show", "--value", "-p", "InvocationID", "shop@9.service")
		if now := strings.TrimSpace(id.Out); id.Code != 0 || now == "" || now == before {
			return false
		}
		return instances(m, "shop") == "shop@10 shop@9" && m.Property("app-rollout-boot.service", "SubState") == "exited"
	})
	want(t, m, "shop", "shop@10 shop@9")
	answersOnly(t, m, "good")
}

// TestTargetsInTheMiddle: a target for repairs is reached in the middle of a
// rollout too; what was asked to put that right draws nothing in that it stops.
// The way back brings up what was ready.
func TestTargetsInTheMiddle(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=good"), 0o644)
	deploys(t, m, "shop")
	for _, target := range []string{"rescue.target", "emergency.target"} {
		m.Write("/etc/app-rollout/shop.env", shop("GENERATION=new", "SYSTEMD_CLUSTER_WATCH_SEC=600"), 0o644)
		m.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
		m.Wait("the watch", 20*time.Second, func() bool {
			return strings.Contains(m.Property("app-rollout@shop.service", "StatusText"), "watching")
		})
		m.Run(context.Background(), "systemctl", "isolate", "--no-block", target)
		m.Wait(target+" alone", 60*time.Second, func() bool {
			return m.Property(target, "ActiveState") == "active" && m.Sh("systemctl list-jobs --no-legend") == "" && instances(m, "shop") == ""
		})
		for unit, want := range map[string]string{"rescue.target": "active", "emergency.target": "inactive"} {
			if got := m.Property("sysinit.target", "ActiveState"); unit == target && got != want {
				t.Errorf("%s: sysinit.target is %s", target, got)
			}
		}
		m.Write("/etc/app-rollout/shop.env", shop("GENERATION=good"), 0o644)
		m.Must("systemctl", "isolate", "default.target")
		booted(m)
		answersOnly(t, m, "good")
	}
}
