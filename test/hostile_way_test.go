//go:build story

package test

import (
	"context"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// refusedWays are files that somebody else owns or can change, or the way to which
// somebody else can change. setup runs in /srv/mallory. A new attack of this kind is
// a line here.
var refusedWays = []struct{ name, setup, why string }{
	{"a user's link to another app's frozen env", "ln -sfn /var/lib/app-rollout/bob/current/env .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root"},
	{"a user's link to another user's .env", "ln -sfn /srv/bob/.env .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root or bob"},
	{"a user's link to a root file", "ln -sfn /etc/shadow .env; chown -h mallory .env", "/srv/mallory: belongs to mallory, not to root"},
	{"a link to a watchdog", "[ -e /dev/watchdog ] || mknod /dev/watchdog c 1 5; ln -sfn /dev/watchdog .env; chown -h mallory .env", "is a device"},
	{"a link to /dev/zero", "ln -sfn /dev/zero .env; chown -h mallory .env", "is a device"},
	{"a link into /proc", "ln -sfn /proc/1/environ .env; chown -h mallory .env", "may keep the boot waiting"},
	{"another user's file in the directory", "rm .env; cp /srv/bob/.env .env; chown bob .env", "/srv/mallory: belongs to mallory, not to root or bob"},
	{"root's file in the directory", "chown root .env", "/srv/mallory: belongs to mallory, not to root"},
	{"another user's file, linked hard", "rm .env; ln /srv/bob/.env .env", "/srv/mallory: belongs to mallory, not to root or bob"},
	{"two names", "ln .env two", "has 2 hard links"},
	{"writable by all", "chmod 666 .env", "can be written by everybody; chmod o-w /srv/mallory/.env"},
	{"a directory writable by all", "chmod 1777 .", "can be written by everybody; chmod o-w /srv/mallory"},
	{"writable by a group of several", "chgrp users .env; chmod 660 .env", "can be written by a group"},
	{"a guest in the private group", "usermod --append --groups mallory bob; chmod 660 .env", "can be written by a group"},
	{"gone", "rm .env", "leads to /srv/mallory/.env, which is not there"},
	{"a FIFO", "rm .env; mkfifo .env; chown mallory .env", "is a FIFO"},
}

// TestHostileWay: a file is refused because of its owner, or of who can change the way
// to it. The running generation stays, and one line says so.
func TestHostileWay(t *testing.T) {
	w := newTown(t, machine.Options{})
	before := w.runs()
	for _, c := range refusedWays {
		w.Sh("cd /srv/mallory; cp -a . /var/tmp/kept; " + c.setup)
		w.refused(c.name, w.Run(context.Background(), "sh", "-c", swap+" mallory"), c.why)
		w.stays(before)
		w.Sh(`cd /srv/mallory; rm -rf .env two; cp -a /var/tmp/kept/.env .; rm -rf /var/tmp/kept; chmod 755 .
			gpasswd --delete bob mallory >/dev/null 2>&1 || true`)
	}
	// A daemon-reload makes no difference.
	w.Must("systemctl", "daemon-reload")
	w.stays(before)
	w.unharmed("all of it")
	t.Run("names", w.names)
}

// refusedNames are names that would shadow a unit, or that no app can have. A new
// attack of this kind is a line here.
var refusedNames = map[string]string{
	"dbus":             "is installed as",
	"getty":            "is installed as",
	"systemd-journald": "is installed as",
	"user":             "is installed as",
	"app-rollout":      "this package's own",
	"app-rollout@shop": "this package's own",
	"A":                "is no app",
	"a.b":              "is no app",
	"a@1":              "is no app",
	"-a":               "is no app",
	`a\x2db`:           "is no app",
	"%i":               "is no app",
	"a b":              "is no app",
	"é":                "is no app",
	"$(id)":            "is no app",
}

// names gives apps the names of users and of units.
func (w *town) names(t *testing.T) {
	w.Sh("mkdir /tmp/names")
	for _, app := range []string{"root", "backup", "80"} {
		w.Write("/etc/app-rollout/"+app+".env", "SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\nSYSTEMD_CLUSTER_WATCH_SEC=0\n", 0o644)
	}
	rollOut(w.app, "root", "backup", "80")
	for _, app := range []string{"root", "backup", "80"} {
		uid := w.Sh("stat -c %u /proc/" + w.Property(app+".service", "MainPID"))
		if user := w.Property(app+".service", "User"); user != "ar-"+app || len(uid) != 5 { // 61184 to 65519: dynamic
			t.Errorf("%s runs as %s, %s", app, user, uid)
		}
	}
	for name, why := range refusedNames {
		w.Write("/etc/app-rollout/"+name+".env", "SYSTEMD_EXEC_START=/usr/bin/true\n", 0o644)
		r := w.Run(context.Background(), "/usr/lib/systemd/system-generators/app-rollout-generator", "/tmp/names")
		if r.Code != 1 || strings.Count(r.Err, why) != 1 {
			t.Errorf("%s.env: status %d: %s", name, r.Code, r.Err)
		}
		w.Must("rm", "/etc/app-rollout/"+name+".env")
	}
}

// TestHostilePort: an app on another app's port is refused, whoever owns the two .env
// files. The error names the other app, which goes on. Nothing is started.
func TestHostilePort(t *testing.T) {
	w := newTown(t, machine.Options{})
	client := w.clients(4, 5*time.Millisecond)
	// Another user cannot bind the port; the same user could share it.
	for _, user := range []string{"root", "mallory", "bob"} {
		w.Write("/srv/second/.env", env("GENERATION=stranger", "SYSTEMD_CLUSTER_READY_SEC=5"), 0o600)
		w.Sh("chown -R " + user + ":" + user + " /srv/second; ln -sfn /srv/second/.env /etc/app-rollout/second.env")
		w.refused("as "+user, run(w.app, "second"), "port 8080 belongs to bob; give second another PORT, then: app-rollout run second")
	}
	if log := w.Sh("journalctl --sync; journalctl -q -b -o cat -u 'second@*' || true"); log != "" {
		t.Errorf("something was started:\n%s", log)
	}
	report := client.Stop()
	nothingLost(t, report)
	for label := range report.Labels {
		if strings.HasPrefix(label, "stranger") {
			t.Errorf("%d of %d requests were answered by another app", report.Labels[label], report.Answered())
		}
	}
	w.unharmed("the same port")
}
