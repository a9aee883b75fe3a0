//go:build story

package test

import (
	"context"
	"strings"
	"testing"

	"app-rollout/test/machine"
	"app-rollout/units"
)

// refusedLines are lines that mallory may not write. Each is refused, and one line of
// output says why. A new attack of this kind is a line here.
var refusedLines = []struct{ line, why string }{
	{"SYSTEMD_USER=root", "SYSTEMD_USER must be the owner of the .env"},
	{"SYSTEMD_USER=0", "SYSTEMD_USER must be the owner of the .env"},
	{`SYSTEMD_USER="mallory\nUser=root"`, "SYSTEMD_USER must not hold control characters"},
	{"PORT=80", "PORT must be 1024 or more"},
	{"SYSTEMD_EXEC_START=+/srv/mallory/pwn", "special prefixes"},
	{"SYSTEMD_EXEC_START='!/srv/mallory/pwn'", "special prefixes"},
	{"SYSTEMD_EXEC_START='!!/srv/mallory/pwn'", "special prefixes"},
	{"SYSTEMD_EXEC_START=@/srv/mallory/pwn", "special prefixes"},
	{"SYSTEMD_EXEC_START=:/srv/mallory/pwn", "special prefixes"},
	{"SYSTEMD_EXEC_START=-/srv/mallory/pwn", "special prefixes"},
	{`SYSTEMD_EXEC_START='"+/srv/mallory/pwn"'`, "special prefixes"},
	{"SYSTEMD_EXEC_START='./probe\nExecStartPre=+/srv/mallory/pwn'", "control characters"},
	{`SYSTEMD_EXEC_START="./probe\nExecStartPre=+/srv/mallory/pwn"`, "control characters"},
	{`SYSTEMD_EXEC_START=./probe \`, "must not end in a backslash"},
	{"SYSTEMD_EXEC_START=pwn", "absolute path"},
	{"SYSTEMD_EXEC_START_PRE=/srv/mallory/pwn", "SYSTEMD_EXEC_START_PRE is no setting"},
	{"SYSTEMD_DYNAMIC_USER=no", "SYSTEMD_DYNAMIC_USER is no setting"},
	{`SYSTEMD_DESCRIPTION="x\n[Service]\nUser=root"`, "SYSTEMD_DESCRIPTION must not hold control characters"},
	{`SYSTEMD_DESCRIPTION=x\`, "SYSTEMD_DESCRIPTION must be at most"},
	{"NOTIFY_SOCKET=/run/systemd/notify", "NOTIFY_SOCKET is set by systemd"},
	{"LISTEN_FDS=3", "LISTEN_FDS is set by systemd"},
	{"SYSTEMD_READ_WRITE_PATHS=/etc", "must lie inside /srv/mallory"},
	{"SYSTEMD_READ_WRITE_PATHS=/", "must lie inside /srv/mallory"},
	{"SYSTEMD_READ_WRITE_PATHS=./etc", "must lie inside /srv/mallory"},
	{"SYSTEMD_READ_WRITE_PATHS=./../mallory-too", "must lie inside /srv/mallory"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/bob", "must lie inside /srv/mallory"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/mallory/bobs", "must lie inside /srv/mallory"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/mallory/../bob", "must lie inside /srv/mallory"},
	{"SYSTEMD_WORKING_DIRECTORY=/proc/1/root", "may keep the boot waiting"},
	{"SYSTEMD_RESTART_SEC=100ms\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", "SYSTEMD_RESTART_SEC must be"},
}

// obeyedLines are lines that mallory may write, but must not gain anything by. A new
// attack of this kind is a line here.
var obeyedLines = []string{
	`SYSTEMD_EXEC_START='./probe ; /srv/mallory/pwn ";" + !! %n %% ${PATH} $HOME \; \\ "a b" "\\nExecStartPre=/srv/mallory/pwn" --path=/home/mallory'`,
	`SYSTEMD_EXEC_START='/srv/mallory/data/../link'` + "\n" + `SYSTEMD_DESCRIPTION='%n %i "x" [Service] User=root ; #'` + "\nSYSTEMD_TYPE=simple",
	`X="1\n[Service]\nUser=root\nExecStartPre=+/srv/mallory/pwn"` + "\n" + `Y=a\` + "\n" + `Z="\\ "` +
		"\nLD_PRELOAD=/srv/mallory/evil.so\nLD_LIBRARY_PATH=/srv/mallory\nPATH=/srv/mallory:/usr/bin:/bin\nUSER=root\nHOME=/root\nBASH_ENV=/srv/mallory/pwn\nENV=/srv/mallory/pwn",
	"SYSTEMD_USER=mallory\nSYSTEMD_WORKING_DIRECTORY=/srv/mallory/current\nSYSTEMD_EXEC_START=/srv/mallory/probe\nSYSTEMD_READ_WRITE_PATHS='/srv/mallory /srv/mallory/data'",
}

// TestHostileEnv: no text in a user's .env gives the app another user's rights, a
// capability, or a way out of the sandbox or into another app.
func TestHostileEnv(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		w := newTown(t, on)
		w.asMallory("the beginning", false)
		w.unharmed("the beginning")
		w.Sh(`ln -s /etc /srv/mallory/etc; ln -s /srv/bob /srv/mallory/bobs; ln -s probe /srv/mallory/link; ln -s data /srv/mallory/current`)

		before := w.runs()
		w.rootsAlone()
		for _, c := range refusedLines {
			w.refused(c.line, w.attack(mallorys+c.line+"\n"), c.why)
		}
		w.stays(before)
		w.unharmed("what is refused")

		for _, lines := range obeyedLines {
			if r := w.attack(mallorys + lines + "\n"); r.Code != 0 {
				t.Errorf("%s: status %d\n%s%s", lines, r.Code, r.Out, r.Err)
			}
			w.asMallory(lines, false)
			w.unharmed(lines)
		}
		w.changesAfterTheCheck()
	})
}

// rootsAlone sets, at once, all settings that only root may set.
func (w *town) rootsAlone() {
	w.t.Helper()
	roots := mallorys
	for _, s := range units.Settings() {
		if s.Root {
			roots += s.Name + "=x\n"
		}
	}
	r := w.attack(roots)
	for _, s := range units.Settings() {
		if s.Root && !strings.Contains(r.Out+r.Err, s.Name+" can only be set in an .env that belongs to root") {
			w.t.Errorf("%s is not refused:\n%s%s", s.Name, r.Out, r.Err)
		}
	}
}

// changesAfterTheCheck replaces a directory after the check and before a start.
func (w *town) changesAfterTheCheck() {
	w.t.Helper()
	if r := w.attack(mallorys + "SYSTEMD_EXEC_START=/srv/mallory/probe\nSYSTEMD_WORKING_DIRECTORY=/srv/mallory/data\nSYSTEMD_READ_WRITE_PATHS='/srv/mallory /srv/mallory/data'\n"); r.Code != 0 {
		w.t.Errorf("status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	w.Sh("rmdir /srv/mallory/data")
	for _, to := range []string{"/srv/mallory-too", "/home/mallory", "/etc"} {
		w.Sh("ln -sfn " + to + " /srv/mallory/data")
		w.Run(context.Background(), "systemctl", "restart", "mallory.service")
		w.asMallory("a directory that became a link to "+to, true)
		w.unharmed("a directory that became a link to " + to)
	}
	w.Sh("ln -sfn /srv/bob /srv/mallory/data; systemctl restart mallory.service || true")
	if got := w.Sh("readlink /proc/$(systemctl show --value --property=MainPID mallory.service)/cwd 2>/dev/null || true"); got == "/srv/bob" {
		w.t.Error("mallory's app runs in bob's directory")
	}
	w.unharmed("a directory that became a link to bob's")
}
