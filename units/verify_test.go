package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// everySetting gives each setting a value, for an app of root's.
const everySetting = `SYSTEMD_CLUSTER_MODE=1
SYSTEMD_CLUSTER_NODES=auto
SYSTEMD_EXEC_START=/usr/bin/true 'a "b" \c' 100% '$HOME' ; ''
SYSTEMD_USER=daemon
SYSTEMD_WORKING_DIRECTORY='/srv/a b'
SYSTEMD_READ_WRITE_PATHS='"/srv/a b" /srv/100%'
PORT=80
SYSTEMD_CLUSTER_REUSE_PORT=1
SYSTEMD_CLUSTER_HEALTH_PATH=/health
SYSTEMD_CLUSTER_READY_SEC=30
SYSTEMD_CLUSTER_WATCH_SEC=5
SYSTEMD_CLUSTER_DRAIN_SEC=60
SYSTEMD_DESCRIPTION='100% of the %i "shop"'
SYSTEMD_TYPE=notify
SYSTEMD_RESTART=on-failure
SYSTEMD_RESTART_SEC=250ms
SYSTEMD_TIMEOUT_STOP_SEC='1min 30s'
SYSTEMD_KILL_SIGNAL=SIGQUIT
SYSTEMD_GROUP=daemon
SYSTEMD_SUPPLEMENTARY_GROUPS='adm tty'
SYSTEMD_AFTER=dbus.socket
SYSTEMD_REQUIRES=dbus.socket
SYSTEMD_LIMIT_NOFILE=1024:4096
SYSTEMD_MEMORY_MAX=50%
SYSTEMD_CPU_QUOTA=150%
SYSTEMD_CPU_WEIGHT=50
SYSTEMD_TASKS_MAX=10%
SYSTEMD_UMASK=0022
SYSTEMD_PRIVATE_TMP=no
SYSTEMD_PRIVATE_DEVICES=no
SYSTEMD_PROTECT_HOME=tmpfs
SYSTEMD_PROTECT_PROC=default
SYSTEMD_MEMORY_DENY_WRITE_EXECUTE=yes
SYSTEMD_RESTRICT_ADDRESS_FAMILIES='AF_INET AF_UNIX'
SYSTEMD_RESTRICT_NAMESPACES=no
`

// What we render is what systemd understands, without a word of complaint, and
// what is rendered without any setting is a sandbox worth the name.
func TestSystemdTakesIt(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("left out: no systemd-analyze here")
	}
	l := tree(t, map[string]string{
		"/usr/bin/true": "#!", "/srv/a b/x": "", "/srv/100%/x": "", "/home/alice/app/.env": "", "/home/alice/app/x": "#!",
		"/etc/passwd": passwd, "/etc/group": groups,
	})
	for name, s := range settings {
		if !strings.Contains(everySetting, s.Name+"=") {
			t.Errorf("%d: %s is not tried", name, s.Name)
		}
	}
	for _, c := range []struct {
		name, text string
		uid        uint32
		sandbox    bool
	}{
		{"every@1.service", everySetting, 0, false},
		{"dynamic@1.service", "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/true\n", 0, true},
		{"one.service", "SYSTEMD_EXEC_START=/usr/bin/true\nPORT=443\n", 0, true},
		{"user@1.service", "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/true\nPORT=3000\n", 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := &Source{App: "shop", Path: "/home/alice/app/.env", Linked: c.uid == 0, UID: c.uid, User: "daemon", Text: []byte(c.text)}
			s, err := l.Check(src)
			if err != nil {
				t.Fatal(err)
			}
			// The name must be none that the machine has.
			path := filepath.Join(t.TempDir(), "app-rollout-test-"+c.name)
			text := s.Unit("/var/lib/app-rollout/shop/generations/1")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			verify := exec.Command(analyze, "--man=no", "verify", path)
			if said, err := verify.CombinedOutput(); err != nil || len(said) > 0 {
				t.Errorf("%v %s in\n%s", err, said, text)
			}
			if !c.sandbox {
				return
			}
			security := exec.Command(analyze, "security", "--offline=yes", "--threshold=20", path)
			said, err := security.CombinedOutput()
			if err != nil {
				t.Errorf("%v %s", err, said)
			}
			all := strings.Split(strings.TrimSpace(string(said)), "\n")
			t.Log(all[len(all)-1])
		})
	}
}
