//go:build story

package test

import (
	"strings"
	"testing"
	"time"
)

// TestNothingLeftBehind: however a rollout ended, no program changes answers or steers
// the app's port afterwards. Such a program would not know an instance that is restarted later, and
// that instance would never get a connection.
func TestNothingLeftBehind(t *testing.T) {
	t.Parallel()
	l := &leftover{newShop(t)}
	l.deploy(quick)
	defer func() {
		if log := l.journal("APP_ROLLOUT_APP=shop"); strings.Contains(log, "not steered") {
			t.Errorf("what a killed run has left is in the way of the next:\n%s", log)
		}
	}()
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"a rollout", func() { l.deploy(quick, "GENERATION=g2") }},
		{"a failed rollout", func() { l.fails("exits", "exited with status 1", quick, "EXIT_AT_START=1") }},
		{"a rollout that fails after its shift", l.failsAfterShift},
		{"a rollout whose helper was killed", l.killedAfterShift},
		{"a rollout whose helper was killed before the shift", l.killedBeforeShift},
		{"the run after one that was killed, and nothing put right then", l.notPutRight},
	} {
		c.do()
		if pins := l.Sh("ls /run/app-rollout-bpf"); strings.Contains(pins, "close-") {
			t.Errorf("%s: the programs that tell clients to close are left: %s", c.name, pins)
		}
		l.restartedGetsItsShare(c.name)
	}
}

// quick makes systemd restart an instance at once.
const quick = "SYSTEMD_RESTART_SEC=100ms"

type leftover struct{ *app }

// kill starts a rollout, kills its helper when the status contains doing, and waits
// until the recovery that systemd then starts has ended. No connection is lost.
func (l *leftover) kill(doing string, lines ...string) {
	l.t.Helper()
	client := l.busy()
	l.begins(doing, lines...)
	if doing == "starting" {
		l.Wait("the new instances to listen", 20*time.Second, func() bool {
			return len(strings.Fields(l.Sh("ss -Hltn sport = :8080 | cut -c1-6"))) == 4
		})
	}
	l.Sh("kill -KILL $(systemctl show --value -p MainPID " + l.service() + ")")
	l.Wait("the end of the service and of its recovery", 60*time.Second, func() bool {
		return l.Property(l.service(), "ActiveState") == "failed" && l.Sh("systemctl list-jobs --no-legend") == ""
	})
	nothingLost(l.t, client.Stop())
}

func (l *leftover) failsAfterShift() {
	client := l.busy() // its first request begins the time until the exit
	l.fails("exits later", "while it was watched", quick, "EXIT_LATER=100ms", "SYSTEMD_CLUSTER_WATCH_SEC=30")
	client.Stop()
}

func (l *leftover) killedAfterShift() {
	l.kill("watching", quick, "GENERATION=g3", "SYSTEMD_CLUSTER_WATCH_SEC=60")
}

func (l *leftover) killedBeforeShift() {
	l.kill("starting", quick, "GENERATION=bad", "STATUS=500", "SYSTEMD_CLUSTER_HEALTH_PATH=/")
}

func (l *leftover) notPutRight() {
	const recovery = "app-rollout-recover@shop.service"
	l.Write("/etc/systemd/system/app-rollout-recover@.service.d/fails.conf", "[Service]\nExecStart=\nExecStart=false\n", 0o644)
	l.Must("systemctl", "daemon-reload")
	l.kill("watching", quick, "GENERATION=g4", "SYSTEMD_CLUSTER_WATCH_SEC=60")
	if state := l.Property(recovery, "ActiveState"); state != "failed" {
		l.t.Errorf("the recovery is %s", state)
	}
	client := l.busy()
	l.deploy(quick, "GENERATION=g5")
	nothingLost(l.t, client.Stop())
	if state := l.Property(recovery, "ActiveState"); state != "inactive" {
		l.t.Errorf("all is put right, but the recovery is still %s", state)
	}
}

// restartedGetsItsShare checks that an instance gets connections after a crash and
// a restart.
func (l *leftover) restartedGetsItsShare(after string) {
	l.t.Helper()
	units := strings.Fields(l.instances())
	if len(units) != 2 {
		l.t.Fatalf("after %s: %v run", after, units)
	}
	pid := l.crash(units[0] + ".service")
	l.Wait(units[0]+" to listen again", 20*time.Second, func() bool {
		return strings.Contains(l.Sh("ss -Hltnp sport = :8080"), "pid="+pid+",")
	})
	client := l.busy()
	l.more(client, 400)
	report := client.Stop()
	share := 0
	for label, n := range report.Labels {
		if strings.HasSuffix(label, " "+pid) {
			share += n
		}
	}
	if share < report.Answered()/4 {
		l.t.Errorf("after %s: an instance that was restarted got %d of %d requests", after, share, report.Answered())
	}
}
