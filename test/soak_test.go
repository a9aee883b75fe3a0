//go:build story

package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// TestSoak does to an app, for SOAK_MINUTES, whatever people and bad luck do, in
// random order, and holds it against a small model: which versions may be up
// now. SOAK_SEED repeats an order; a failed one prints it with its steps.
func TestSoak(t *testing.T) {
	minutes, _ := strconv.ParseFloat(os.Getenv("SOAK_MINUTES"), 64)
	if minutes <= 0 {
		t.Skip("takes as long as you like: make soak MINUTES=10")
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SOAK_SEED=%d", seed)
	s := &soak{victim: newVictim(t, "bookworm"), rand: rand.New(rand.NewPCG(seed, 0))}
	s.nodes = map[string]int{}
	s.client = s.victim.client()
	defer func() {
		t.Logf("%d steps, %d faults, %d connections, %d lost", len(s.steps), s.inflicted, s.answered+s.lost, s.lost)
		if t.Failed() {
			t.Logf("SOAK_SEED=%d; the steps:\n%s", seed, strings.Join(s.steps, "\n"))
		}
	}()
	for end := time.Now().Add(time.Duration(minutes * float64(time.Minute))); time.Now().Before(end) && !t.Failed(); {
		s.step()
	}
	s.count("the end", s.client, 0)
}

// soak is a victim to which everything happens.
type soak struct {
	*victim
	rand   *rand.Rand
	client *machine.Load
	steps  []string
	asked  string // the version that the .env asks for
	good   bool   // and it can be had
}

func (s *soak) pick(from ...string) string { return from[s.rand.IntN(len(from))] }

// edit writes a new version of the .env.
func (s *soak) edit(good bool) (lines []string) {
	s.asked, s.good = s.next(), good
	if nodes := 1 + s.rand.IntN(3); nodes != 2 {
		s.nodes[s.asked] = nodes
		lines = append(lines, fmt.Sprint("SYSTEMD_CLUSTER_NODES=", nodes))
	}
	lines = append(lines, strings.Fields(s.pick("", "", "START_DELAY=500ms", "SYSTEMD_TYPE=notify NOTIFY=1", "STOP=ignore SYSTEMD_TIMEOUT_STOP_SEC=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/health"))...)
	if !good {
		lines = append(lines, strings.Fields(s.pick("EXIT_AT_START=3", "NO_LISTEN=1", "SYSTEMD_CLUSTER_HEALTH_PATH=/health HEALTH=500", "LISTEN=127.0.0.1:9999"))...)
		lines = append(lines, "SYSTEMD_CLUSTER_READY_SEC=3")
	}
	s.write(s.asked, lines...)
	return lines
}

// step does one thing and checks what must hold then.
func (s *soak) step() {
	switch s.rand.IntN(12) {
	case 0, 1, 2:
		how := s.pick("app-rollout run shop", "systemctl start app-rollout@shop.service", "/usr/lib/app-rollout/rollout-helper swap shop")
		s.log("edit %v, %s", s.edit(true), how)
		s.does(how, 0)
		s.up = s.asked
		s.whole("a good version", s.up)
	case 3, 4:
		s.log("bad edit %v, run", s.edit(false))
		s.does("app-rollout run shop", 1)
		s.whole("a bad version", s.up)
	case 5, 6, 7:
		s.hit()
	case 8:
		s.log("roll back")
		r := s.m.Run(context.Background(), "app-rollout", "rollback", "shop")
		if r.Code != 0 && !strings.Contains(r.Err+r.Out, "nothing to roll back to") {
			s.t.Errorf("rollback: %s%s", r.Out, r.Err)
		}
		s.up = s.state().version
		s.whole("rolled back", s.up)
		if r.Code == 0 {
			s.does("systemctl start app-rollout.service", 0)
			s.whole("held in a run for all", s.up)
		}
	case 9:
		how := s.pick("reboot", "power cut")
		s.log("%s", how)
		s.ends()
		before := s.up
		if how == "reboot" {
			s.m.Reboot()
		} else {
			s.m.Kill()
			s.m.PowerOn()
		}
		s.settles()
		s.whole(how, s.afterBoot(before)...)
		s.up = s.state().version
		s.client = s.victim.client()
	case 10:
		how := s.pick("systemctl daemon-reload", "systemctl daemon-reexec", "systemctl isolate multi-user.target", "systemctl reset-failed", "dpkg --install /var/tmp/app-rollout_*.deb")
		s.log("%s", how)
		s.does(how, 0)
		s.settles()
		s.whole(how, s.afterBoot(s.up)...)
		s.up = s.state().version
	case 11:
		s.log("stop it, and start it again")
		s.ends()
		s.m.Sh("mv /etc/app-rollout/shop.env /etc/app-rollout/shop.env.off")
		s.does("systemctl start app-rollout.service", 0)
		if left := instances(s.m, "shop"); left != "" {
			s.t.Errorf("without .env %s run", left)
		}
		s.m.Sh("mv /etc/app-rollout/shop.env.off /etc/app-rollout/shop.env")
		s.log("edit %v", s.edit(true))
		s.does("app-rollout run shop", 0)
		s.up = s.asked
		s.whole("started again", s.up)
		s.client = s.victim.client()
	}
}

// hit inflicts a fault on a run.
func (s *soak) hit() {
	all := places
	good := s.rand.IntN(3) > 0
	if !good {
		all = bad
	}
	p := all[s.rand.IntN(len(all))]
	fault := s.pick(kill, kill, term, stop, cut, reboot)
	w := p.wound
	if w.again {
		fault = kill // only who is killed leaves something to recover from
	}
	s.asked, s.good = s.next(), good
	s.log("%s at %s of %v", fault, p.step, p.new)
	s.write(s.asked, p.new...)
	w.fault, w.late = fault, true
	if p.step == "drain" {
		w.at, w.after = "commit", 20*time.Millisecond // nothing is in flight for long here
	}
	before := s.up
	down := fault == cut || fault == reboot
	if down {
		s.ends()
	}
	s.wounds(w)
	switch fault {
	case cut:
		s.m.PowerOn()
	case reboot:
		s.m.Reboot()
	}
	s.settles()
	allowed := []string{before}
	if good {
		allowed = append(allowed, s.asked)
	}
	if !w.again {
		s.whole("hit", allowed...)
	}
	if down {
		s.client = s.victim.client()
	}
	if s.up = s.state().version; w.again {
		s.does("/usr/lib/app-rollout/rollout-helper recover shop", 0)
		s.whole("recovered", allowed...)
	}
}

// afterBoot are the versions that may be up after a boot: the one that was, or
// what the .env asks for.
func (s *soak) afterBoot(was string) []string {
	if s.good {
		return []string{was, s.asked}
	}
	return []string{was}
}

// ends stops the client, whose network goes.
func (s *soak) ends() { s.count("until now", s.client, 0) }

func (s *soak) does(command string, code int) {
	s.t.Helper()
	if r := s.m.Run(context.Background(), "sh", "-c", command); r.Code != code {
		s.t.Errorf("%s: status %d, not %d\n%s\n%s", command, r.Code, code, r.Out, r.Err)
	}
}

func (s *soak) log(format string, args ...any) {
	s.steps = append(s.steps, fmt.Sprintf("%3d ", len(s.steps)+1)+fmt.Sprintf(format, args...))
}
