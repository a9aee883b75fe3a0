//go:build story

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
	steps "app-rollout/units/step"
)

// A meddling is what somebody else does to systemd or to an instance in the middle of
// a rollout.
type meddling struct {
	name  string
	new   []string // lines of the version that is rolled out
	wound wound
	fails bool // the rollout fails, as it should
	takes bool // it ends an instance that serves, and the requests that the instance has in hand are lost
}

const (
	// $old and $new are two instances.
	instancesOfBoth = `old=$(systemctl list-units --plain --no-legend 'shop@*' | sort -V | head -n1 | cut -d' ' -f1); new=$(systemctl list-units --plain --no-legend 'shop@*' | sort -V | tail -n1 | cut -d' ' -f1); `
	reloadStorm     = `for i in 1 2 3 4 5 6 7 8; do systemctl daemon-reload; done`
)

// untilItFails makes the watch of a rollout last until something fails it.
var untilItFails = []string{"SYSTEMD_CLUSTER_WATCH_SEC=60"}

// meddlings are all meddlings. A new one is a line here.
var meddlings = []meddling{
	{name: "daemon-reload while they start", new: slowToStart, wound: wound{at: atStart, until: someStart, do: reloadStorm}},
	{name: "daemon-reload while they are watched", wound: wound{at: atWatch, do: reloadStorm}},
	{name: "daemon-reload at the commit", wound: wound{at: atCommit, do: reloadStorm}},
	{name: "daemon-reexec in the middle of their jobs", new: slowToStart, wound: wound{at: atStart, until: someStart, do: "systemctl daemon-reexec"}},
	{name: "daemon-reexec while the old ones stop", wound: wound{at: atStop, do: "systemctl daemon-reexec"}},
	{name: "isolate while they are watched", wound: wound{at: atWatch, do: "systemctl isolate multi-user.target"}},
	{name: "isolate while they start", new: slowToStart, wound: wound{at: atStart, until: someStart, do: "systemctl isolate multi-user.target"}},
	{name: "an old one is stopped", new: longWatch, wound: wound{at: atWatch, after: 200 * time.Millisecond, do: instancesOfBoth + `systemctl stop $old`}},
	{name: "an old one is restarted", new: slowToStart, wound: wound{at: atStart, until: someStart, do: instancesOfBoth + `systemctl restart $old`}, takes: true},
	{name: "a new one is stopped", new: untilItFails, wound: wound{at: atWatch, do: instancesOfBoth + `systemctl stop $new`}, fails: true, takes: true},
	{name: "a new one is restarted", new: untilItFails, wound: wound{at: atWatch, do: instancesOfBoth + `systemctl restart $new || true`}, fails: true, takes: true},
	{name: "another package is installed while they start", new: slowToStart, wound: wound{at: atStart, until: someStart, do: "dpkg --install /root/other.deb"}},
	{name: "another package is removed while they are watched", wound: wound{at: atWatch, do: "dpkg --remove other"}},
	{name: "this package is installed again while they start", new: slowToStart, wound: wound{at: atStart, until: someStart, do: "dpkg --install /root/own.deb"}},
	{name: "this package is installed again at the commit", wound: wound{at: atCommit, do: "dpkg --install /root/own.deb"}},
	{name: "/run/app-rollout is removed while they start", new: slowToStart, wound: wound{at: atStart, until: someStart, do: "rm -r /run/app-rollout"}},
	{name: "/run/app-rollout is removed while they are watched", wound: wound{at: atWatch, do: "rm -r /run/app-rollout"}},
	{name: "reset-failed", new: []string{"EXIT_AT_START=3"}, wound: wound{at: atStart, do: "sleep 0.3; systemctl reset-failed 'shop@*'"}, fails: true},
}

// TestMeddling: a rollout succeeds, or fails as it should, whatever somebody else does
// in the middle of it.
func TestMeddling(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	v.Copy(other(t), "/root/other.deb", 0o644)
	v.Copy(machine.Deb(t), "/root/own.deb", 0o644)
	for _, c := range meddlings {
		v.inTime(c.name, func() bool { return v.meddle(c) })
	}
	t.Logf("%d times, %d connections, %d lost", v.inflicted, v.answered+v.lost, v.lost)
}

func (v *victim) meddle(c meddling) (hit bool) {
	v.t.Helper()
	client := v.client()
	was, now := v.up, v.next()
	v.write(now, c.new...)
	began := time.Now()
	hit = v.wounds(now, c.wound)
	done := time.Now()
	v.settles()
	fails := c.fails && hit
	if result, want := v.Property(v.service(), "Result"), map[bool]string{false: "success", true: "exit-code"}[fails]; result != want {
		v.t.Errorf("%s: the run's result is %s, not %s", c.name, result, want)
	}
	if !fails {
		was = now
	}
	v.whole(c.name, was)
	v.up = was
	if !c.takes {
		v.count(c.name, client)
		return hit
	}
	// What is lost was in hand when the instance was ended: at most one request of each
	// worker, and none that began afterwards.
	for _, f := range v.countMost(c.name, client, workers).Failures {
		if f.End < began.UnixNano() || f.Start > done.UnixNano() {
			v.t.Errorf("%s: lost before or after an instance was ended: %+v", c.name, f)
		}
	}
	return hit
}

// other is a package with a service, which its scripts enable and start as those of
// debhelper do, and with a file that is not an app's .env.
func other(t *testing.T) string {
	t.Helper()
	return repack(t, machine.Deb(t), func(dir string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		hostWrite(t, filepath.Join(dir, "DEBIAN/control"),
			"Package: other\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n")
		hostWrite(t, filepath.Join(dir, "usr/lib/systemd/system/other.service"),
			"[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
		hostWrite(t, filepath.Join(dir, "etc/app-rollout/other.env.off"), "")
		for script, text := range map[string]string{
			"postinst": "systemctl daemon-reload\nsystemctl enable other.service\nsystemctl start other.service\n",
			"prerm":    "systemctl stop other.service\nsystemctl disable other.service\n",
			"postrm":   "systemctl daemon-reload\n",
		} {
			path := filepath.Join(dir, "DEBIAN", script)
			hostWrite(t, path, "#!/bin/sh\nset -e\n"+text)
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestRunsAtOnce: an app has one rollout at a time, whoever asks for it. What is asked
// for meanwhile is rolled out afterwards.
func TestRunsAtOnce(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	client := v.client()
	v.up = v.next()
	v.write(v.up)
	cursor := v.Sh("journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'")
	commands := [][]string{
		{"systemctl", "start", "app-rollout.service"},
		{"systemctl", "start", "app-rollout@shop.service"},
		{"/usr/lib/app-rollout/rollout-helper", "swap", "shop"},
		{"app-rollout", "run", "shop"},
		{"app-rollout", "run"},
	}
	ends := make(chan string, len(commands))
	for _, c := range commands {
		go func() {
			r := v.Run(context.Background(), c[0], c[1:]...)
			if r.Code != 0 {
				ends <- fmt.Sprintf("%s: status %d\n%s\n%s", strings.Join(c, " "), r.Code, r.Out, r.Err)
				return
			}
			ends <- ""
		}()
	}
	for range commands {
		if said := <-ends; said != "" {
			t.Error(said)
		}
	}
	v.settles()
	v.whole("five runs at once", v.up)
	under := ""
	for _, line := range strings.Split(v.Sh("journalctl --sync; journalctl -q --after-cursor='"+cursor+"' -o json --output-fields=_PID,APP_ROLLOUT_STEP APP_ROLLOUT_APP=shop"), "\n") {
		pid := between(line, `"_PID":"`, `"`)
		switch step := between(line, `"APP_ROLLOUT_STEP":"`, `"`); {
		case step == "lock":
		case under != "" && pid != under:
			t.Errorf("a run by %s, in the middle of one by %s: %s", pid, under, line)
		case step == steps.Forget:
			under = ""
		default:
			under = pid
		}
	}

	// An edit while a run is under way is rolled out too.
	first := v.next()
	v.write(first)
	edit := v.next()
	v.wounds(first, wound{at: atWatch, do: "sed -i s/^GENERATION=.*/GENERATION=" + edit + "/ /etc/app-rollout/shop.env"})
	v.settles()
	v.whole("an edit during a run", edit)

	// A run that is asked for while one is under way begins after it.
	second := v.next()
	v.write(second)
	v.wounds(second, wound{at: atWatch, do: ":"})
	v.deploy()
	v.whole("run beside a run", v.up)
	v.settles()
	v.whole("run beside a run, after it", v.up)
	v.count("runs at once", client)
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}
