package units

import (
	"strings"
	"testing"
)

// What several of them are told.
const (
	badSeconds = " must be a number of seconds from "
	badOwner   = " can only be set in an .env that belongs to root; remove the line and set "
	badDropIn  = "= in a drop-in: systemctl edit --force shop.service"
	badSwitch  = " must be 1, yes, true or on, or 0, no, false or off"
	badPrefix  = "must not begin with one of systemd's special prefixes @ - : + ! |; begin with the path"
)

// badSettings are one bad line each.
var badSettings = []struct {
	line string // after a good EXEC_START on line 1
	uid  int
	want string // after "/srv/shop/.env:2: "
}{
	{"SYSTEMD_CLUSTER_NODES=0", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=-1", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=two", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=1e9", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=257", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=02", 0, "SYSTEMD_CLUSTER_NODES must be a number from 1 to 256, or auto"},
	{"SYSTEMD_CLUSTER_NODES=", 0, "SYSTEMD_CLUSTER_NODES is empty; give it a value or remove the line"},
	{"SYSTEMD_CLUSTER_NODES=$N", 0, "SYSTEMD_CLUSTER_NODES is empty; give it a value or remove the line"},
	{`SYSTEMD_CLUSTER_NODES="2$N"`, 0, "SYSTEMD_CLUSTER_NODES must not have a variable replaced in it; write the value out"},
	{"SYSTEMD_CLUSTER_NODES='2\n'", 0, "SYSTEMD_CLUSTER_NODES must not hold control characters or line breaks"},
	{"SYSTEMD_CLUSTER_MODE=maybe", 0, "SYSTEMD_CLUSTER_MODE" + badSwitch},
	{"SYSTEMD_CLUSTER_MODE=2", 0, "SYSTEMD_CLUSTER_MODE" + badSwitch},
	{"SYSTEMD_CLUSTER_NODE=2", 0, "SYSTEMD_CLUSTER_NODE is no setting; did you mean SYSTEMD_CLUSTER_NODES?"},
	{"SYSTEMD_EXECSTART=2", 0, "SYSTEMD_EXECSTART is no setting; did you mean SYSTEMD_EXEC_START?"},
	{"SYSTEMD_INSTANCE=2", 0, "SYSTEMD_INSTANCE is set by systemd for the app itself; remove it"},
	{"SYSTEMD_CLUSTER_REUSE_PORT=enabled", 0, "SYSTEMD_CLUSTER_REUSE_PORT" + badSwitch},
	{"SYSTEMD_CLUSTER_READY_SEC=0", 0, "SYSTEMD_CLUSTER_READY_SEC" + badSeconds + "1 to 600"},
	{"SYSTEMD_CLUSTER_READY_SEC=601", 0, "SYSTEMD_CLUSTER_READY_SEC" + badSeconds + "1 to 600"},
	{"SYSTEMD_CLUSTER_WATCH_SEC=-1", 0, "SYSTEMD_CLUSTER_WATCH_SEC" + badSeconds + "0 to 600"},
	{"SYSTEMD_CLUSTER_DRAIN_SEC=1.5", 0, "SYSTEMD_CLUSTER_DRAIN_SEC" + badSeconds + "0 to 3600"},
	{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", 0, "SYSTEMD_CLUSTER_HEALTH_PATH needs PORT, to know where to ask"},
	{"SYSTEMD_CLUSTER_HEALTH_PATH=health\nPORT=3000", 0, "SYSTEMD_CLUSTER_HEALTH_PATH must be an HTTP path: a / and printable ASCII without spaces, 1024 characters at most"},
	{"SYSTEMD_CLUSTER_HEALTH_PATH='/a HTTP/1.1'\nPORT=3000", 0, "SYSTEMD_CLUSTER_HEALTH_PATH must be an HTTP path: a / and printable ASCII without spaces, 1024 characters at most"},
	{"SYSTEMD_CLUSTER_DRAIN_UNTIL=idle", 0, "SYSTEMD_CLUSTER_DRAIN_UNTIL must be answered or closed"},
	{"SYSTEMD_CLUSTER_BALANCE=roundrobin", 0, "SYSTEMD_CLUSTER_BALANCE must be leastconn or hash"},
	{"SYSTEMD_CLUSTER_DRAIN_KEEPALIVE=yes", 0, "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE must be close or leave"},
	{"SYSTEMD_CLUSTER_HEALTH_HOST=shop.example", 0, "SYSTEMD_CLUSTER_HEALTH_HOST needs SYSTEMD_CLUSTER_HEALTH_PATH, to know what to ask for"},
	{"SYSTEMD_CLUSTER_HEALTH_HOST='a b'", 0, "SYSTEMD_CLUSTER_HEALTH_HOST must be a host's name or address, and a port after a colon if you like"},
	{"SYSTEMD_CLUSTER_HEALTH_HOST='a\nX-Admin: 1'", 0, "SYSTEMD_CLUSTER_HEALTH_HOST must not hold control characters or line breaks"},
	{"SYSTEMD_CLUSTER_HEALTH_HOST=http://shop", 0, "SYSTEMD_CLUSTER_HEALTH_HOST must be a host's name or address, and a port after a colon if you like"},
	{"SYSTEMD_KILL_MODE=process", 0, "SYSTEMD_KILL_MODE must be mixed or control-group"},
	{"PORT=0", 0, "PORT must be a number from 1 to 65535"},
	{"PORT=${PORT:-3000}", 0, "PORT has a default for a variable in it, as ${A:-b}, and defaults are not supported; write the value out"},
	{"PORT=http", 0, "PORT must be a number from 1 to 65535"},
	{"PORT=65536", 0, "PORT must be a number from 1 to 65535"},
	{"PORT=80", alice, "PORT must be 1024 or more, since the .env is not root's"},
	{`SYSTEMD_DESCRIPTION='a\'` + " x=y", 0, ""},
	{"SYSTEMD_DESCRIPTION=" + strings.Repeat("x", 201), 0, "SYSTEMD_DESCRIPTION must be at most 200 bytes, without a space at either end or a backslash at the end"},
	{`SYSTEMD_DESCRIPTION=x\`, 0, "SYSTEMD_DESCRIPTION must be at most 200 bytes, without a space at either end or a backslash at the end"},
	{"SYSTEMD_TYPE=forking", 0, "SYSTEMD_TYPE must be exec, simple or notify"},
	{"SYSTEMD_RESTART=no", 0, "SYSTEMD_RESTART must be always, on-failure or on-abnormal"},
	{"SYSTEMD_RESTART_SEC=0", 0, "SYSTEMD_RESTART_SEC must be a time from 100ms to 10min, as 5s"},
	{"SYSTEMD_RESTART_SEC=5 parsecs", 0, "SYSTEMD_RESTART_SEC must be a time from 100ms to 10min, as 5s"},
	{"SYSTEMD_TIMEOUT_STOP_SEC=infinity", 0, "SYSTEMD_TIMEOUT_STOP_SEC must be a time from 1s to 1h, as 30s"},
	{"SYSTEMD_KILL_SIGNAL=9", 0, "SYSTEMD_KILL_SIGNAL must be SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH or SIGKILL"},

	{"SYSTEMD_USER=root", alice, "SYSTEMD_USER must be the owner of the .env; to name another user, put an .env of root's at /etc/app-rollout/shop.env"},
	{"SYSTEMD_USER=0", alice, "SYSTEMD_USER must be the owner of the .env; to name another user, put an .env of root's at /etc/app-rollout/shop.env"},
	{"SYSTEMD_USER='alice\nUser=root'", alice, "SYSTEMD_USER must not hold control characters or line breaks"},
	{"SYSTEMD_USER=a/b", 0, "SYSTEMD_USER must be the name or number of a user"},
	{"SYSTEMD_USER=-x", 0, "SYSTEMD_USER must be the name or number of a user"},
	{"SYSTEMD_WORKING_DIRECTORY=data", 0, "SYSTEMD_WORKING_DIRECTORY must be an absolute path"},
	{"SYSTEMD_WORKING_DIRECTORY=~", 0, "SYSTEMD_WORKING_DIRECTORY must be an absolute path"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/gone", 0, "SYSTEMD_WORKING_DIRECTORY cannot be used: /srv/gone is not there; create it or correct the path"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/plain", 0, "SYSTEMD_WORKING_DIRECTORY must be a directory"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/other", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, put an .env of root's at /etc/app-rollout/shop.env, with SYSTEMD_USER=alice in it"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/out", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, put an .env of root's at /etc/app-rollout/shop.env, with SYSTEMD_USER=alice in it"},
	{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/../other", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, put an .env of root's at /etc/app-rollout/shop.env, with SYSTEMD_USER=alice in it"},
	{"SYSTEMD_READ_WRITE_PATHS=/etc", alice, "SYSTEMD_READ_WRITE_PATHS must lie inside /srv/shop, the directory of the real .env; for another one, put an .env of root's at /etc/app-rollout/shop.env, with SYSTEMD_USER=alice in it"},
	{"SYSTEMD_READ_WRITE_PATHS=/", 0, "SYSTEMD_READ_WRITE_PATHS must not be /, which would undo the sandbox"},
	{"SYSTEMD_READ_WRITE_PATHS=-/srv/shop/data", 0, "SYSTEMD_READ_WRITE_PATHS must be absolute paths, or begin with ./ for the working directory"},
	{"SYSTEMD_READ_WRITE_PATHS='/srv/shop/data /srv/gone'", 0, "SYSTEMD_READ_WRITE_PATHS cannot be used: /srv/gone is not there; create it or correct the path"},

	{"SYSTEMD_READ_WRITE_PATHS='" + strings.Repeat("./data ", 65) + "x'", alice, "SYSTEMD_READ_WRITE_PATHS must be 64 paths at most; name a directory above them"},
	{"SYSTEMD_USER=4294967295", 0, "SYSTEMD_USER must be the name or number of a user"},
	{"SYSTEMD_RESTART_SEC=100ms\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", alice, "SYSTEMD_RESTART_SEC must be 4001 ms or more for 256 instances, since the .env is not root's"},

	{"SYSTEMD_GROUP=alice", alice, "SYSTEMD_GROUP" + badOwner + "Group" + badDropIn},
	{"SYSTEMD_GROUP='a b'", 0, "SYSTEMD_GROUP must be the name or number of a group"},
	{"SYSTEMD_SUPPLEMENTARY_GROUPS='a /b'", 0, "SYSTEMD_SUPPLEMENTARY_GROUPS must be names or numbers of groups, separated by spaces"},
	{"SYSTEMD_AFTER=multi-user.target", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
	{"SYSTEMD_AFTER=app-rollout.service", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
	{"SYSTEMD_AFTER=app-rollout-boot.service", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
	{"SYSTEMD_AFTER='a.service %i.service'", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
	{"SYSTEMD_AFTER=multi-user.target", alice, "SYSTEMD_AFTER" + badOwner + "After" + badDropIn},
	{"SYSTEMD_REQUIRES=postgresql", 0, "SYSTEMD_REQUIRES must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
	{"SYSTEMD_LIMIT_NOFILE=2:1", 0, "SYSTEMD_LIMIT_NOFILE must be a number of files, or SOFT:HARD with SOFT no more than HARD"},
	{"SYSTEMD_MEMORY_MAX=1GB", 0, "SYSTEMD_MEMORY_MAX must be a number of bytes, with K, M, G or T if you like, or a percentage, or infinity"},
	{"SYSTEMD_CPU_QUOTA=50", 0, "SYSTEMD_CPU_QUOTA must be a percentage of one CPU, as 150%"},
	{"SYSTEMD_CPU_WEIGHT=0", 0, "SYSTEMD_CPU_WEIGHT must be a number from 1 to 10000"},
	{"SYSTEMD_TASKS_MAX=some", 0, "SYSTEMD_TASKS_MAX must be a number, a percentage, or infinity"},
	{"SYSTEMD_UMASK=9", 0, "SYSTEMD_UMASK must be an octal number, as 0027"},
	{"SYSTEMD_PRIVATE_TMP=maybe", 0, "SYSTEMD_PRIVATE_TMP" + badSwitch},
	{"SYSTEMD_PRIVATE_TMP=no", 0, "SYSTEMD_PRIVATE_TMP has no effect for a dynamic user; set SYSTEMD_USER too"},
	{"SYSTEMD_PRIVATE_DEVICES=no", alice, "SYSTEMD_PRIVATE_DEVICES" + badOwner + "PrivateDevices" + badDropIn},
	{"SYSTEMD_PROTECT_HOME=never", 0, "SYSTEMD_PROTECT_HOME must be 1, yes, true, on, 0, no, false, off, read-only or tmpfs"},
	{"SYSTEMD_PROTECT_PROC=x", 0, "SYSTEMD_PROTECT_PROC must be invisible, noaccess, ptraceable or default"},
	{"SYSTEMD_MEMORY_DENY_WRITE_EXECUTE=2", 0, "SYSTEMD_MEMORY_DENY_WRITE_EXECUTE" + badSwitch},
	{"SYSTEMD_RESTRICT_ADDRESS_FAMILIES='AF_INET ~AF_UNIX'", 0, "SYSTEMD_RESTRICT_ADDRESS_FAMILIES must be names as AF_INET, separated by spaces"},
	{"SYSTEMD_RESTRICT_NAMESPACES=user", 0, "SYSTEMD_RESTRICT_NAMESPACES" + badSwitch},

	{"SYSTEMD_CLUSTER_RELEASE_COMMAND=rake db:migrate", 0, "SYSTEMD_CLUSTER_RELEASE_COMMAND must begin with an absolute path, or with ./ for a program in the working directory"},
	{"SYSTEMD_CLUSTER_RELEASE_COMMAND=+/usr/bin/app", 0, "SYSTEMD_CLUSTER_RELEASE_COMMAND " + badPrefix},
	{"SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC=0", 0, "SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC must be a number of seconds from 1 to 86400"},
	{"SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC=86401", 0, "SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC must be a number of seconds from 1 to 86400"},
	{"SYSTEMD_EXEC_START=node app.js", 0, "SYSTEMD_EXEC_START must begin with an absolute path, or with ./ for a program in the working directory"},
	{"SYSTEMD_EXEC_START=+/usr/bin/app", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{"SYSTEMD_EXEC_START=!/usr/bin/app", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{"SYSTEMD_EXEC_START=@/usr/bin/app x", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{"SYSTEMD_EXEC_START=:/usr/bin/app", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{"SYSTEMD_EXEC_START=-/usr/bin/app", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{"SYSTEMD_EXEC_START='|/usr/bin/app'", 0, "SYSTEMD_EXEC_START " + badPrefix},
	{`SYSTEMD_EXEC_START="/usr/bin/app\nExecStartPre=/bin/sh"`, 0, "SYSTEMD_EXEC_START must not hold control characters or line breaks"},
	{"SYSTEMD_EXEC_START='/usr/bin/app\nUser=root'", 0, "SYSTEMD_EXEC_START must not hold control characters or line breaks"},
	{`SYSTEMD_EXEC_START=/usr/bin/app \`, 0, "SYSTEMD_EXEC_START must not end in a backslash"},
	{`SYSTEMD_EXEC_START=/usr/bin/app "x`, 0, "SYSTEMD_EXEC_START has a quote that is never closed"},
	{"SYSTEMD_EXEC_START=/usr/bin/", 0, "SYSTEMD_EXEC_START must name a program, not a directory"},
	{"SYSTEMD_EXEC_START=/usr/bin", 0, "SYSTEMD_EXEC_START must name a program, not a directory"},
	{"SYSTEMD_EXEC_START=/usr/bin/gone", 0, "SYSTEMD_EXEC_START must name a program that is there; correct the path"},
	{"SYSTEMD_EXEC_START=/gone/app", 0, "SYSTEMD_EXEC_START must name a program that is there, and its directory is not; correct the path"},
	{"SYSTEMD_EXEC_START=./plain", 0, "SYSTEMD_EXEC_START must name a program that can be executed; chmod +x it"},
	{"SYSTEMD_EXEC_START='/usr/bin/a$pp'", 0, "SYSTEMD_EXEC_START must not have a $ in the path of its program"},
	{`SYSTEMD_EXEC_START='""'`, 0, "SYSTEMD_EXEC_START must name a program"},
}

// Each bad value is refused with one line that says what it must be.
func TestBadSettings(t *testing.T) {
	l := shopTree(t)
	for _, c := range badSettings {
		text := run + c.line + "\n"
		if strings.HasPrefix(c.line, "SYSTEMD_EXEC_START") {
			text = "\n" + c.line + "\n"
		}
		want := ""
		if c.want != "" {
			want = "/srv/shop/.env:2: " + c.want
		}
		_, err := ask(l, c.uid, text)
		if got := strings.Join(lines(err), "\n"); want != "" && got != want || want == "" && err == nil {
			t.Errorf("%s:\n%s\nwant\n%s", c.line, got, want)
		}
	}
	_, err := ask(l, 0, "A=1\n")
	if got := strings.Join(lines(err), "\n"); got != "/srv/shop/.env: SYSTEMD_EXEC_START is missing; let it say what to run" {
		t.Errorf("without EXEC_START: %s", got)
	}
}
