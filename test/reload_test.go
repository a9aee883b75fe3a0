//go:build story

package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestReloads: a rollout reloads systemd only if multi-user.target wants the instances
// that it replaces. It wants those that the boot has started.
func TestReloads(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)
		shop.deploy("GENERATION=good")
		shop.Reboot()
		shop.booted()
		for at, c := range []struct {
			env            []string
			serves         string
			fails, reloads bool
		}{
			{[]string{"GENERATION=g2"}, "shop@3 shop@4", false, true},
			{[]string{"GENERATION=g3"}, "shop@5 shop@6", false, false},
			{[]string{"GENERATION=bad", "EXIT_AT_START=1"}, "shop@5 shop@6", true, false},
			{[]string{"GENERATION=g3"}, "shop@10 shop@9", false, false},
		} {
			if at == 2 {
				// What the generator makes now wants no other instances than before.
				shop.Must("systemctl", "daemon-reload")
			}
			shop.write(c.env...)
			before := reloads(shop)
			if r := shop.run(); (r.Code != 0) != c.fails {
				t.Errorf("rollout %d: status %d: %s%s", at, r.Code, r.Out, r.Err)
			}
			shop.want(c.serves)
			if got := reloads(shop) - before; got > 0 != c.reloads {
				t.Errorf("rollout %d reloads systemd %d times", at, got)
			}
			shop.nothingLeft(c.serves)
		}
		if got := shop.Property("shop@9.service", "NeedDaemonReload"); got != "no" {
			t.Errorf("NeedDaemonReload=%s", got)
		}
	})
}

// reloads is how often systemd was reloaded since the machine is up.
func reloads(a *app) int {
	return strings.Count(a.journal("_PID=1"), "Reload")
}

// TestTargets: an isolate leaves alone what a rollout has started, as it leaves alone
// what the boot has started. A target for repairs stops it, and the way back starts it
// again. A soft-reboot, which keeps /run, starts it again too.
func TestTargets(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Release: "trixie"})
	shop.write("GENERATION=good")
	shop.Reboot()
	shop.booted()
	shop.rollOut()
	shop.rollOut()
	pids := shop.pids("5", "6")
	for _, do := range [][]string{{"isolate", "multi-user.target"}, {"start", "multi-user.target"}} {
		shop.Must("systemctl", do...)
		shop.want("shop@5 shop@6")
		if now := shop.pids("5", "6"); now != pids {
			t.Errorf("%v: started anew", do)
		}
	}

	for _, target := range []string{"rescue.target", "emergency.target"} {
		shop.Run(context.Background(), "systemctl", "isolate", "--no-block", target)
		shop.Wait("the stop of the app", 20*time.Second, func() bool {
			return shop.Property(target, "ActiveState") == "active" && shop.Property("shop@5.service", "ActiveState") == "inactive"
		})
		shop.Must("systemctl", "isolate", "default.target")
		shop.booted()
		shop.want("shop@5 shop@6")
		shop.answersOnly("good")
	}
	shop.rollOut()
	shop.want("shop@7 shop@8")
	shop.rollOut()

	before := shop.Property("shop@9.service", "InvocationID")
	shop.write("GENERATION=bad", "EXIT_AT_START=1")
	if r := shop.run(); r.Code != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	shop.SoftReboot()
	shop.Wait("the boot", 60*time.Second, func() bool {
		id := shop.Run(context.Background(), "systemctl", "show", "--value", "-p", "InvocationID", "shop@9.service")
		if now := strings.TrimSpace(id.Out); id.Code != 0 || now == "" || now == before {
			return false
		}
		return shop.instances() == "shop@10 shop@9" && shop.Property("app-rollout-boot.service", "SubState") == "exited"
	})
	shop.want("shop@10 shop@9")
	shop.answersOnly("good")
}

// TestTargetsInTheMiddle: a target for repairs can be reached in the middle of a rollout
// too. The recovery that systemd then starts pulls in nothing that the target stops.
// The way back starts what was ready.
func TestTargetsInTheMiddle(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.deploy("GENERATION=good")
	for _, target := range []string{"rescue.target", "emergency.target"} {
		shop.begins("watching", "GENERATION=new", "SYSTEMD_CLUSTER_WATCH_SEC=600")
		shop.Run(context.Background(), "systemctl", "isolate", "--no-block", target)
		shop.Wait(target+" alone", 60*time.Second, func() bool {
			return shop.Property(target, "ActiveState") == "active" && shop.Sh("systemctl list-jobs --no-legend") == "" && shop.instances() == ""
		})
		for unit, want := range map[string]string{"rescue.target": "active", "emergency.target": "inactive"} {
			if got := shop.Property("sysinit.target", "ActiveState"); unit == target && got != want {
				t.Errorf("%s: sysinit.target is %s", target, got)
			}
		}
		shop.write("GENERATION=good")
		shop.Must("systemctl", "isolate", "default.target")
		shop.booted()
		shop.answersOnly("good")
	}
}
