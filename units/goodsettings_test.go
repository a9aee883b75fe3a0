package units

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// goodSettings are some good lines each, and what they make of the unit.
var goodSettings = []struct {
	line string
	uid  int
	want string // lines of the unit, separated by |; a ! before one that must not begin like this
}{
	{"SYSTEMD_CLUSTER_MODE=1", 0, "Description=shop (instance %i)|Environment=SYSTEMD_INSTANCE=%i"},
	{"", 0, "Description=shop|Environment=SYSTEMD_INSTANCE=0|User=ar-shop|DynamicUser=yes|Type=exec|Restart=always|RestartSec=5000ms|TimeoutStopSec=30000ms|KillSignal=SIGTERM|CapabilityBoundingSet="},
	{"", alice, "User=alice|WorkingDirectory=/srv/shop|ReadWritePaths=/srv/shop|Slice=system-app\\x2drollout\\x2dports.slice"},
	{"SYSTEMD_USER=alice", alice, "User=alice"},
	{fmt.Sprintf("SYSTEMD_USER=%d", alice), alice, "User=alice"},
	{"SYSTEMD_USER=www-data", 0, "User=www-data"},
	{"SYSTEMD_WORKING_DIRECTORY='/srv/a b'\nSYSTEMD_READ_WRITE_PATHS='\"/srv/a b\" /srv/shop/data'", 0,
		`WorkingDirectory=/srv/a b|ReadWritePaths="/srv/a b" /srv/shop/data|RequiresMountsFor="/srv/a b" /srv/shop/data /usr/bin /var/lib/app-rollout`},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/data", alice, "WorkingDirectory=/srv/shop/data|ReadWritePaths=/srv/shop/data"},
	{"SYSTEMD_READ_WRITE_PATHS=./data", alice, "ReadWritePaths=/srv/shop/data"},
	{"SYSTEMD_READ_WRITE_PATHS='./data /srv/shop ./data'", alice, "ReadWritePaths=/srv/shop"},
	{"SYSTEMD_READ_WRITE_PATHS='./data ./data'", alice, "ReadWritePaths=/srv/shop/data"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/out", 0, "WorkingDirectory=/srv/other"},
	{"SYSTEMD_EXEC_START=/bin/app", 0, "ExecStart=/usr/bin/app"},
	{"SYSTEMD_EXEC_START=./bin/app x", 0, "ExecStart=/srv/shop/bin/app x"},
	{"SYSTEMD_EXEC_START=./venv/python -m app", 0, "ExecStart=/srv/shop/venv/python -m app"},
	{"PORT=80", 0, "AmbientCapabilities=CAP_NET_BIND_SERVICE|CapabilityBoundingSet=CAP_NET_BIND_SERVICE"},
	{"PORT=8080\nSYSTEMD_CLUSTER_REUSE_PORT=0", 0, "!Slice=|!AmbientCapabilities="},
	{"SYSTEMD_DESCRIPTION='100% ours %i'", 0, "Description=100%% ours %%i"},
	{"SYSTEMD_TYPE=notify", 0, "Type=notify|NotifyAccess=main|TimeoutStartSec=90s"},
	{"SYSTEMD_TYPE=notify\nSYSTEMD_CLUSTER_READY_SEC=300s", 0, "TimeoutStartSec=310s"},
	{"SYSTEMD_TYPE=simple", 0, "Type=simple"},
	{"SYSTEMD_RESTART=on-failure", 0, "Restart=on-failure"},
	{"SYSTEMD_RESTART_SEC='1min 30s'", 0, "RestartSec=90000ms"},
	{"SYSTEMD_RESTART_SEC=250ms", 0, "RestartSec=250ms"},
	{"SYSTEMD_RESTART_SEC=100ms\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", 0, "RestartSec=100ms"},
	{"SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", alice, "RestartSec=5000ms"},
	{"SYSTEMD_TIMEOUT_STOP_SEC=2", 0, "TimeoutStopSec=2000ms"},
	{"SYSTEMD_KILL_SIGNAL=SIGQUIT", 0, "KillSignal=SIGQUIT"},
	{"SYSTEMD_KILL_MODE=control-group", alice, "KillMode=control-group"},
	{"", 0, "KillMode=mixed"},
	{"SYSTEMD_GROUP=www-data", 0, "Group=www-data"},
	{"SYSTEMD_SUPPLEMENTARY_GROUPS='ssl-cert  44'", 0, "SupplementaryGroups=ssl-cert 44"},
	{"SYSTEMD_AFTER='postgresql@15-main.service srv-data.mount redis.socket'", 0, "After=postgresql@15-main.service srv-data.mount redis.socket"},
	{`SYSTEMD_AFTER='srv-my\x2ddata.mount'`, 0, `After=srv-my\x2ddata.mount`},
	{"SYSTEMD_REQUIRES=postgresql.service", 0, "Requires=postgresql.service"},
	{"SYSTEMD_LIMIT_NOFILE=1024:4096", 0, "LimitNOFILE=1024:4096"},
	{"SYSTEMD_MEMORY_MAX=512M", 0, "MemoryMax=512M"},
	{"SYSTEMD_MEMORY_MAX=50%", 0, "MemoryMax=50%"},
	{"SYSTEMD_CPU_QUOTA=150%", 0, "CPUQuota=150%"},
	{"SYSTEMD_CPU_WEIGHT=10", 0, "CPUWeight=10"},
	{"SYSTEMD_TASKS_MAX=infinity", 0, "TasksMax=infinity"},
	{"SYSTEMD_UMASK=0022", 0, "UMask=0022"},
	{"SYSTEMD_PRIVATE_TMP=no\nSYSTEMD_USER=alice", 0, "PrivateTmp=no|ReadWritePaths=/srv/shop /tmp /var/tmp"},
	{"SYSTEMD_PRIVATE_DEVICES=no", 0, "PrivateDevices=no"},
	{"SYSTEMD_PROTECT_HOME=tmpfs", 0, "ProtectHome=tmpfs"},
	{"SYSTEMD_PROTECT_PROC=default", 0, "ProtectProc=default"},
	{"SYSTEMD_MEMORY_DENY_WRITE_EXECUTE=yes", 0, "MemoryDenyWriteExecute=yes"},
	{"SYSTEMD_RESTRICT_ADDRESS_FAMILIES=AF_UNIX", 0, "RestrictAddressFamilies=AF_UNIX"},
	{"SYSTEMD_RESTRICT_NAMESPACES=no", 0, "RestrictNamespaces=no"},
	{"SYSTEMD_CLUSTER_MODE=on\nSYSTEMD_PRIVATE_DEVICES=off\nSYSTEMD_MEMORY_DENY_WRITE_EXECUTE=True\nSYSTEMD_RESTRICT_NAMESPACES=0\nSYSTEMD_PROTECT_HOME=1\nPORT=8080\nSYSTEMD_CLUSTER_REUSE_PORT=No", 0,
		"Environment=SYSTEMD_INSTANCE=%i|PrivateDevices=no|MemoryDenyWriteExecute=yes|RestrictNamespaces=no|ProtectHome=yes|!Slice="},
	{"SYSTEMD_EXEC_START='/usr/bin/app --root=/home/alice/x'", 0, "ProtectHome=read-only"},
}

// Every setting with a directive reaches the unit.
func TestGoodSettings(t *testing.T) {
	l := shopTree(t)
	defer func(n func() int) { cpus = n }(cpus)
	cpus = func() int { return 3 }
	reached := make(map[string]bool)
	for _, c := range goodSettings {
		text := c.line + "\n"
		if !strings.Contains(c.line, "EXEC_START") {
			text = run + text
		}
		if c.uid != 0 {
			chownTree(t, l.Path("/srv/shop"))
		}
		s, err := ask(l, c.uid, text)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		have := strings.Split(s.Unit("/var/lib/app-rollout/shop/generations/1"), "\n")
		for want := range strings.SplitSeq(c.want, "|") {
			if unwanted, not := strings.CutPrefix(want, "!"); not {
				if strings.Contains(strings.Join(have, "\n"), "\n"+unwanted) {
					t.Errorf("%s: %s in\n%s", c.line, unwanted, strings.Join(have, "\n"))
				}
			} else if !slices.Contains(have, want) {
				t.Errorf("%s: no %s in\n%s", c.line, want, strings.Join(have, "\n"))
			}
			directive, _, _ := strings.Cut(want, "=")
			reached[directive] = true
		}
		if s.Env["SYSTEMD_EXEC_START"] == "" {
			t.Errorf("%s: the settings do not reach the app", c.line)
		}
	}
	for _, set := range settings {
		if set.Directive != "" && !reached[set.Directive] {
			t.Errorf("%s: no line here says that it reaches the unit", set.Name)
		}
	}
}
