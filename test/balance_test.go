//go:build story

package test

import (
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
)

// TestBalance: four instances between rollouts, balanced by the kernel alone. Deploys
// under load lose nothing, also when the helper is killed in the middle; one that hangs
// gets next to nothing; one that crashes and comes back gets its share, and so do those
// that were booted. Where it cannot be done, a line says so.
func TestBalance(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	lines := []string{"SYSTEMD_CLUSTER_BALANCE=leastconn", "SYSTEMD_CLUSTER_NODES=4"}
	said := shop.deploy(append(lines, "GENERATION=g1")...)
	clients := shop.busy()
	for _, g := range []string{"g2", "g3"} {
		said += shop.deploy(append(lines, "GENERATION="+g)...)
		shop.more(clients, 100)
	}
	shop.begins("watching", append(lines, "GENERATION=g4", "SYSTEMD_CLUSTER_WATCH_SEC=300")...)
	shop.Must("systemctl", "kill", "--signal=KILL", shop.service())
	shop.Wait("the recovery", 60*time.Second, func() bool { return shop.instances() == "shop@10 shop@11 shop@12 shop@9" && !shop.recovering() })
	shop.more(clients, 100)
	nothingLost(t, clients.Stop())
	if strings.Contains(said, "balanced") {
		t.Errorf("something was wrong:\n%s", said)
	}
	shop.balanced("after a recovery")

	shop.Sh("kill -STOP " + shop.pids("10"))
	clients = shop.Load(load.Options{Addr: port, Workers: 4, Pause: 2 * time.Millisecond, Timeout: 5 * time.Second})
	shop.more(clients, 500)
	report := clients.Stop()
	t.Logf("one of four is stopped: %v", report)
	if report.Lost()*50 > report.Answered() || report.Lost() != report.Kinds[load.Timeout] {
		t.Errorf("of %d requests %v were lost", report.Answered()+report.Lost(), report.Kinds)
	}
	shop.crash("shop@10.service")
	shop.Wait("the instance that came back", 20*time.Second, func() bool {
		return strings.Contains(shop.Sh("ss -Hltnp"), "pid="+shop.Property("shop@10.service", "MainPID")+",")
	})
	shop.balanced("after a crash")

	shop.write(append(lines, "GENERATION=g3")...) // so that the boot stays with it
	shop.Reboot()
	shop.booted()
	shop.balanced("after a boot")

	back := shop.dropIn("app-rollout@.service", noBPF)
	if said := shop.deploy(append(lines, "GENERATION=g5")...); strings.Count(said, "new connections are not balanced, but go by the kernel's hash: ") != 1 {
		t.Errorf("it cannot be balanced, and the run says:\n%s", said)
	}
	back()
	shop.deploy(append(lines, "GENERATION=g6")...)
	shop.balanced("when it can be again")
	shop.deploy("GENERATION=g7")
	if left := shop.Sh("ls /run/app-rollout-bpf/balance/*"); left != "" || shop.steered() {
		t.Errorf("it is to be balanced no more, and left is %q", left)
	}
}

// recovering reports whether a recovery of the app is under way.
func (a *app) recovering() bool {
	a.t.Helper()
	state := a.Property("app-rollout-recover@"+a.name+".service", "ActiveState")
	return state != "inactive" && state != "failed" || a.Property(a.service(), "ActiveState") == "activating"
}

// balanced checks that 80 requests that wait at the same time are spread evenly over
// four instances. By the hash one in a hundred times they would be.
func (a *app) balanced(when string) {
	a.t.Helper()
	const enough = "/run/enough"
	clients := a.Load(load.Options{Addr: port, Workers: 80, Path: "/?until=" + enough, Once: true, Timeout: time.Minute})
	a.Wait("80 requests to wait", 30*time.Second, func() bool {
		return strings.TrimSpace(a.Sh("ss -Htn state established 'sport = :8080' | wc -l")) == "80"
	})
	a.Sh("touch " + enough)
	a.Wait("80 answers", 30*time.Second, func() bool { return clients.Answered() == 80 })
	report := clients.Stop()
	a.Sh("rm " + enough)
	if len(report.Labels) != 4 {
		a.t.Errorf("%s: %v answer, want four", when, report.Labels)
	}
	for label, n := range report.Labels {
		if n < 18 || n > 22 {
			a.t.Errorf("%s: %s has %d of 80", when, label, n)
		}
	}
}
