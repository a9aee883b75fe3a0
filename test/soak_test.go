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

// TestSoak does to an app, for SOAK_MINUTES and in random order, whatever people and bad
// luck do. After each step it checks by a small model which versions may be up.
// SOAK_SEED repeats an order; a failed run prints its seed and its steps.
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
	s := &soak{victim: newVictim(t), rand: rand.New(rand.NewPCG(seed, 0))}
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
	s.count("the end", s.client)
}

// soak is a victim that suffers everything.
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

// step does one thing and checks what must be so afterwards.
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
		r := s.Run(context.Background(), "app-rollout", "rollback", "shop")
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
			s.Reboot()
		} else {
			s.Kill()
			s.PowerOn()
		}
		s.settles()
		s.whole(how, s.afterBoot(before)...)
		s.up = s.state().version
		s.client = s.victim.client()
	case 10:
		how := s.pick("systemctl daemon-reload", "systemctl daemon-reexec", "systemctl isolate multi-user.target", "systemctl reset-failed", "app-rollout restart shop", "dpkg --install /var/tmp/app-rollout_*.deb")
		s.log("%s", how)
		s.does(how, 0)
		s.settles()
		s.whole(how, s.afterBoot(s.up)...)
		s.up = s.state().version
	case 11:
		s.log("stop it, and start it again")
		s.ends()
		s.Sh("mv /etc/app-rollout/shop.env /etc/app-rollout/shop.env.off")
		s.does("systemctl start app-rollout.service", 0)
		if left := s.instances(); left != "" {
			s.t.Errorf("without .env %s run", left)
		}
		s.Sh("mv /etc/app-rollout/shop.env.off /etc/app-rollout/shop.env")
		s.log("edit %v", s.edit(true))
		s.does("app-rollout run shop", 0)
		s.up = s.asked
		s.whole("started again", s.up)
		s.client = s.victim.client()
	}
}

// hit inflicts a fault on a run. If it comes too late, the run is an ordinary one.
func (s *soak) hit() {
	k := rollout
	if s.rand.IntN(3) == 0 {
		k = bad
	}
	p := k.places[s.rand.IntN(len(k.places))]
	f := append([]*fault{kill}, faults...)[s.rand.IntN(1+len(faults))]
	if p.again {
		f = kill // only who is killed leaves something to recover from
	}
	s.asked, s.good = s.next(), k != bad
	s.log("%s at %s of a %s, %v", f.name, p.name, k.name, p.new)
	s.write(s.asked, p.new...)
	w := wound{at: p.at, until: p.until, after: p.after, do: f.do, powerOff: f.powerOff, again: p.again, last: p.last}
	if p.at == atDrain {
		w.at = atCommit // nothing is in hand for long here
	}
	before := s.up
	if f.powerOff != nil {
		s.ends()
	}
	hit := s.wounds(s.asked, w)
	if f.powerOff != nil && hit {
		s.PowerOn()
	}
	s.settles()
	allowed := []string{before}
	if s.good {
		allowed = append(allowed, s.asked)
	}
	if !p.again {
		s.whole("hit", allowed...)
	}
	if f.powerOff != nil {
		s.client = s.victim.client()
	}
	if s.up = s.state().version; p.again {
		s.does("/usr/lib/app-rollout/rollout-helper recover shop", 0)
		s.whole("recovered", allowed...)
	}
}

// afterBoot are the versions that may be up after a boot: the one that was up, or the
// one that the .env asks for.
func (s *soak) afterBoot(was string) []string {
	if s.good {
		return []string{was, s.asked}
	}
	return []string{was}
}

// ends stops the client, because its network will go.
func (s *soak) ends() { s.count("until now", s.client) }

func (s *soak) does(command string, code int) {
	s.t.Helper()
	if r := s.Run(context.Background(), "sh", "-c", command); r.Code != code {
		s.t.Errorf("%s: status %d, not %d\n%s\n%s", command, r.Code, code, r.Out, r.Err)
	}
}

func (s *soak) log(format string, args ...any) {
	s.steps = append(s.steps, fmt.Sprintf("%3d ", len(s.steps)+1)+fmt.Sprintf(format, args...))
}
