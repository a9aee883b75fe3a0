package units

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"app-rollout/units/dotenv/dotenvtest"
)

// ask checks an .env of root's, or of alice's, in /srv/shop.
func ask(l Layout, uid int, text string) (*Spec, error) {
	user := "root"
	if uid != 0 {
		user = "alice"
	}
	return l.Check(&Source{App: "shop", Path: "/srv/shop/.env", Linked: true, UID: uint32(uid), GID: uint32(uid), User: user, Text: []byte(text), released: true})
}

func shopTree(t testing.TB) Layout {
	return tree(t, map[string]string{
		"/etc/passwd":           passwd,
		"/etc/group":            groups,
		"/srv/shop/.env":        "",
		"/srv/shop/bin/app":     "#!",
		"/srv/shop/data/x":      "",
		"/srv/shop/plain":       "no program",
		"/srv/shop/out":         "-> /srv/other",
		"/srv/shop/venv/python": "-> /usr/bin/app",
		"/srv/other/x":          "",
		"/srv/a b/x":            "",
		"/usr/bin/app":          "#!",
		"/bin":                  "-> usr/bin",
	})
}

const run = "SYSTEMD_EXEC_START=/usr/bin/app\n"

// Each bad value is refused with one line that says what it must be.
func TestBadSettings(t *testing.T) {
	l := shopTree(t)
	const (
		sec    = " must be a number of seconds from "
		rooted = " can only be set in an .env that belongs to root; chown root /srv/shop/.env, or use a drop-in: systemctl edit"
		prefix = "must not begin with one of systemd's special prefixes @ - : + ! |; begin with the path"
	)
	for _, c := range []struct {
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
		{"SYSTEMD_CLUSTER_MODE=yes", 0, "SYSTEMD_CLUSTER_MODE must be 0 or 1"},
		{"SYSTEMD_CLUSTER_MODE=2", 0, "SYSTEMD_CLUSTER_MODE must be 0 or 1"},
		{"SYSTEMD_CLUSTER_NODE=2", 0, "SYSTEMD_CLUSTER_NODE is no setting; did you mean SYSTEMD_CLUSTER_NODES?"},
		{"SYSTEMD_EXECSTART=2", 0, "SYSTEMD_EXECSTART is no setting; did you mean SYSTEMD_EXEC_START?"},
		{"SYSTEMD_INSTANCE=2", 0, "SYSTEMD_INSTANCE is set by systemd for the app itself; remove it"},
		{"SYSTEMD_CLUSTER_REUSE_PORT=true", 0, "SYSTEMD_CLUSTER_REUSE_PORT must be 0 or 1"},
		{"SYSTEMD_CLUSTER_READY_SEC=0", 0, "SYSTEMD_CLUSTER_READY_SEC" + sec + "1 to 600"},
		{"SYSTEMD_CLUSTER_READY_SEC=601", 0, "SYSTEMD_CLUSTER_READY_SEC" + sec + "1 to 600"},
		{"SYSTEMD_CLUSTER_WATCH_SEC=-1", 0, "SYSTEMD_CLUSTER_WATCH_SEC" + sec + "0 to 600"},
		{"SYSTEMD_CLUSTER_DRAIN_SEC=1.5", 0, "SYSTEMD_CLUSTER_DRAIN_SEC" + sec + "0 to 3600"},
		{"SYSTEMD_CLUSTER_HEALTH_PATH=/health", 0, "SYSTEMD_CLUSTER_HEALTH_PATH needs PORT, to know where to ask"},
		{"SYSTEMD_CLUSTER_HEALTH_PATH=health\nPORT=3000", 0, "SYSTEMD_CLUSTER_HEALTH_PATH must be an HTTP path: a / and printable ASCII without spaces, 1024 characters at most"},
		{"SYSTEMD_CLUSTER_HEALTH_PATH='/a HTTP/1.1'\nPORT=3000", 0, "SYSTEMD_CLUSTER_HEALTH_PATH must be an HTTP path: a / and printable ASCII without spaces, 1024 characters at most"},
		{"PORT=0", 0, "PORT must be a number from 1 to 65535"},
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

		{"SYSTEMD_USER=root", alice, "SYSTEMD_USER must be the owner of the .env; let root own the .env to name another user"},
		{"SYSTEMD_USER=0", alice, "SYSTEMD_USER must be the owner of the .env; let root own the .env to name another user"},
		{"SYSTEMD_USER='alice\nUser=root'", alice, "SYSTEMD_USER must not hold control characters or line breaks"},
		{"SYSTEMD_USER=a/b", 0, "SYSTEMD_USER must be the name or number of a user"},
		{"SYSTEMD_USER=-x", 0, "SYSTEMD_USER must be the name or number of a user"},
		{"SYSTEMD_WORKING_DIRECTORY=data", 0, "SYSTEMD_WORKING_DIRECTORY must be an absolute path"},
		{"SYSTEMD_WORKING_DIRECTORY=~", 0, "SYSTEMD_WORKING_DIRECTORY must be an absolute path"},
		{"SYSTEMD_WORKING_DIRECTORY=/srv/gone", 0, "SYSTEMD_WORKING_DIRECTORY cannot be used: /srv/gone is not there; create it or correct the path"},
		{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/plain", 0, "SYSTEMD_WORKING_DIRECTORY must be a directory"},
		{"SYSTEMD_WORKING_DIRECTORY=/srv/other", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, let root own the .env"},
		{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/out", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, let root own the .env"},
		{"SYSTEMD_WORKING_DIRECTORY=/srv/shop/../other", alice, "SYSTEMD_WORKING_DIRECTORY must lie inside /srv/shop, the directory of the real .env; for another one, let root own the .env"},
		{"SYSTEMD_READ_WRITE_PATHS=/etc", alice, "SYSTEMD_READ_WRITE_PATHS must lie inside /srv/shop, the directory of the real .env; for another one, let root own the .env"},
		{"SYSTEMD_READ_WRITE_PATHS=/", 0, "SYSTEMD_READ_WRITE_PATHS must not be /, which would undo the sandbox"},
		{"SYSTEMD_READ_WRITE_PATHS=-/srv/shop/data", 0, "SYSTEMD_READ_WRITE_PATHS must be absolute paths, or begin with ./ for the working directory"},
		{"SYSTEMD_READ_WRITE_PATHS='/srv/shop/data /srv/gone'", 0, "SYSTEMD_READ_WRITE_PATHS cannot be used: /srv/gone is not there; create it or correct the path"},

		{"SYSTEMD_READ_WRITE_PATHS='" + strings.Repeat("./data ", 65) + "x'", alice, "SYSTEMD_READ_WRITE_PATHS must be 64 paths at most; name a directory above them"},
		{"SYSTEMD_USER=4294967295", 0, "SYSTEMD_USER must be the name or number of a user"},
		{"SYSTEMD_RESTART_SEC=100ms\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256", alice, "SYSTEMD_RESTART_SEC must be 4001 ms or more for 256 instances, since the .env is not root's"},

		{"SYSTEMD_GROUP=alice", alice, "SYSTEMD_GROUP" + rooted},
		{"SYSTEMD_GROUP='a b'", 0, "SYSTEMD_GROUP must be the name or number of a group"},
		{"SYSTEMD_SUPPLEMENTARY_GROUPS='a /b'", 0, "SYSTEMD_SUPPLEMENTARY_GROUPS must be names or numbers of groups, separated by spaces"},
		{"SYSTEMD_AFTER=multi-user.target", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
		{"SYSTEMD_AFTER=app-rollout.service", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
		{"SYSTEMD_AFTER=app-rollout-boot.service", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
		{"SYSTEMD_AFTER='a.service %i.service'", 0, "SYSTEMD_AFTER must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
		{"SYSTEMD_AFTER=multi-user.target", alice, "SYSTEMD_AFTER" + rooted},
		{"SYSTEMD_REQUIRES=postgresql", 0, "SYSTEMD_REQUIRES must be names of services, sockets or mounts, separated by spaces; this package's own are not among them"},
		{"SYSTEMD_LIMIT_NOFILE=2:1", 0, "SYSTEMD_LIMIT_NOFILE must be a number of files, or SOFT:HARD with SOFT no more than HARD"},
		{"SYSTEMD_MEMORY_MAX=1GB", 0, "SYSTEMD_MEMORY_MAX must be a number of bytes, with K, M, G or T if you like, or a percentage, or infinity"},
		{"SYSTEMD_CPU_QUOTA=50", 0, "SYSTEMD_CPU_QUOTA must be a percentage of one CPU, as 150%"},
		{"SYSTEMD_CPU_WEIGHT=0", 0, "SYSTEMD_CPU_WEIGHT must be a number from 1 to 10000"},
		{"SYSTEMD_TASKS_MAX=some", 0, "SYSTEMD_TASKS_MAX must be a number, a percentage, or infinity"},
		{"SYSTEMD_UMASK=9", 0, "SYSTEMD_UMASK must be an octal number, as 0027"},
		{"SYSTEMD_PRIVATE_TMP=maybe", 0, "SYSTEMD_PRIVATE_TMP must be yes or no"},
		{"SYSTEMD_PRIVATE_TMP=no", 0, "SYSTEMD_PRIVATE_TMP has no effect for a dynamic user; set SYSTEMD_USER too"},
		{"SYSTEMD_PRIVATE_DEVICES=no", alice, "SYSTEMD_PRIVATE_DEVICES" + rooted},
		{"SYSTEMD_PROTECT_HOME=never", 0, "SYSTEMD_PROTECT_HOME must be yes, no, read-only or tmpfs"},
		{"SYSTEMD_PROTECT_PROC=x", 0, "SYSTEMD_PROTECT_PROC must be invisible, noaccess, ptraceable or default"},
		{"SYSTEMD_MEMORY_DENY_WRITE_EXECUTE=1", 0, "SYSTEMD_MEMORY_DENY_WRITE_EXECUTE must be yes or no"},
		{"SYSTEMD_RESTRICT_ADDRESS_FAMILIES='AF_INET ~AF_UNIX'", 0, "SYSTEMD_RESTRICT_ADDRESS_FAMILIES must be names as AF_INET, separated by spaces"},
		{"SYSTEMD_RESTRICT_NAMESPACES=user", 0, "SYSTEMD_RESTRICT_NAMESPACES must be yes or no"},

		{"SYSTEMD_EXEC_START=node app.js", 0, "SYSTEMD_EXEC_START must begin with an absolute path, or with ./ for a program in the working directory"},
		{"SYSTEMD_EXEC_START=+/usr/bin/app", 0, "SYSTEMD_EXEC_START " + prefix},
		{"SYSTEMD_EXEC_START=!/usr/bin/app", 0, "SYSTEMD_EXEC_START " + prefix},
		{"SYSTEMD_EXEC_START=@/usr/bin/app x", 0, "SYSTEMD_EXEC_START " + prefix},
		{"SYSTEMD_EXEC_START=:/usr/bin/app", 0, "SYSTEMD_EXEC_START " + prefix},
		{"SYSTEMD_EXEC_START=-/usr/bin/app", 0, "SYSTEMD_EXEC_START " + prefix},
		{"SYSTEMD_EXEC_START='|/usr/bin/app'", 0, "SYSTEMD_EXEC_START " + prefix},
		{`SYSTEMD_EXEC_START="/usr/bin/app\nExecStartPre=/bin/sh"`, 0, "SYSTEMD_EXEC_START must not hold control characters or line breaks"},
		{"SYSTEMD_EXEC_START='/usr/bin/app\nUser=root'", 0, "SYSTEMD_EXEC_START must not hold control characters or line breaks"},
		{`SYSTEMD_EXEC_START=/usr/bin/app \`, 0, "SYSTEMD_EXEC_START must not end in a backslash"},
		{`SYSTEMD_EXEC_START=/usr/bin/app "x`, 0, "SYSTEMD_EXEC_START has a quote that is never closed"},
		{"SYSTEMD_EXEC_START=/usr/bin/", 0, "SYSTEMD_EXEC_START must name a program, not a directory"},
		{"SYSTEMD_EXEC_START=/usr/bin", 0, "SYSTEMD_EXEC_START must name a program, not a directory"},
		{"SYSTEMD_EXEC_START=/usr/bin/gone", 0, "SYSTEMD_EXEC_START must name a program that is there"},
		{"SYSTEMD_EXEC_START=/gone/app", 0, "SYSTEMD_EXEC_START must name a program that is there; its directory is not"},
		{"SYSTEMD_EXEC_START=./plain", 0, "SYSTEMD_EXEC_START must name a program that can be executed; chmod +x it"},
		{"SYSTEMD_EXEC_START='/usr/bin/a$pp'", 0, "SYSTEMD_EXEC_START must not have a $ in the path of its program"},
		{`SYSTEMD_EXEC_START='""'`, 0, "SYSTEMD_EXEC_START must name a program"},
	} {
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

// All that is wrong is said at once, in the order of the lines.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := ask(shopTree(t), alice, "SYSTEMD_GROUP=x\nPORT=80\nSYSTEMD_X=1\nSYSTEMD_CLUSTER_NODES=0\nSYSTEMD_CLUSTER_HEALTH_PATH=/up\n")
	var got []string
	for _, line := range lines(err) {
		where, _, _ := strings.Cut(line, " ")
		got = append(got, strings.TrimPrefix(where, "/srv/shop/.env:"))
	}
	if want := []string{"", "1:", "2:", "3:", "4:", "5:"}; !slices.Equal(got, want) {
		t.Errorf("at %q, not %q:\n%s", got, want, err)
	}
}

// Every setting with a directive reaches the unit, there and nowhere else.
func TestGoodSettings(t *testing.T) {
	l := shopTree(t)
	defer func(n func() int) { cpus = n }(cpus)
	cpus = func() int { return 3 }
	for _, c := range []struct {
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
		{"SYSTEMD_EXEC_START='/usr/bin/app --root=/home/alice/x'", 0, "ProtectHome=read-only"},
	} {
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
		}
		if s.Env["SYSTEMD_EXEC_START"] == "" {
			t.Errorf("%s: the settings do not reach the app", c.line)
		}
	}
}

// chownTree gives a directory's files to alice, as far as the test may.
func chownTree(t *testing.T, dir string) {
	if os.Getuid() != 0 {
		return
	}
	for _, name := range []string{"", ".env", "data", "data/x"} {
		if err := os.Lchown(dir+"/"+name, alice, alice); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlan(t *testing.T) {
	l := shopTree(t)
	defer func(n func() int) { cpus = n }(cpus)
	cpus = func() int { return 3 }
	def := Plan{Mode: 0, Nodes: 1, ReusePort: true, ReadySec: 60, WatchSec: 3, DrainSec: 30, TimeoutStopSec: 30,
		Type: "exec", User: "ar-shop", WorkingDirectory: "/srv/shop"}
	for line, change := range map[string]func(*Plan){
		"":                        func(p *Plan) {},
		"SYSTEMD_CLUSTER_NODES=7": func(p *Plan) {}, // mode 0 has one
		"SYSTEMD_CLUSTER_MODE=1":  func(p *Plan) { p.Mode, p.Nodes = 1, 2 },
		"SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=auto":                                         func(p *Plan) { p.Mode, p.Nodes = 1, 3 },
		"SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=256":                                          func(p *Plan) { p.Mode, p.Nodes = 1, 256 },
		"PORT=3000\nSYSTEMD_CLUSTER_HEALTH_PATH=/up?x=1":                                             func(p *Plan) { p.Port, p.HealthPath = 3000, "/up?x=1" },
		"SYSTEMD_CLUSTER_REUSE_PORT=0":                                                               func(p *Plan) { p.ReusePort = false },
		"SYSTEMD_CLUSTER_READY_SEC=600\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_CLUSTER_DRAIN_SEC=3600": func(p *Plan) { p.ReadySec, p.WatchSec, p.DrainSec = 600, 0, 3600 },
		"SYSTEMD_TIMEOUT_STOP_SEC=1500ms":                                                            func(p *Plan) { p.TimeoutStopSec = 2 },
		"SYSTEMD_TYPE=notify\nSYSTEMD_USER=alice":                                                    func(p *Plan) { p.Type, p.User = "notify", "alice" },
	} {
		s, err := ask(l, 0, run+line+"\n")
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		want := def
		if change(&want); s.Plan != want {
			t.Errorf("%s: plan is %+v, want %+v", line, s.Plan, want)
		}
	}
}

func TestSettingsTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Settings() {
		if seen[s.Name] || s.Help == "" || (s.Directive == "") != (s.Section == "") {
			t.Errorf("%+v", s)
		}
		if (s.Default == "") == (s.Otherwise == "") {
			t.Errorf("%s: has both kinds of default or none", s.Name)
		}
		seen[s.Name] = true
	}
}

// The digest changes with everything that is frozen, and with nothing else.
func TestDigest(t *testing.T) {
	l := shopTree(t)
	spec := func(uid int, text string) *Spec {
		s, err := ask(l, uid, run+text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\n")
	if same := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\n"); same.Digest() != base.Digest() || same.Unsized() != base.Unsized() {
		t.Error("the same .env has another digest")
	}
	for _, text := range []string{"A=2\nSYSTEMD_CLUSTER_MODE=1\n", "A=1\n", "A=1\nSYSTEMD_CLUSTER_MODE=1\nPORT=3000\n", "A=1\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_USER=alice\n"} {
		if s := spec(0, text); s.Digest() == base.Digest() || s.Unsized() == base.Unsized() {
			t.Errorf("%q has the same digest", text)
		}
	}
	sized := spec(0, "A=1\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=5\n")
	if sized.Digest() == base.Digest() || sized.Unsized() != base.Unsized() {
		t.Error("another number of nodes is not told apart, or is more than that")
	}
	moved := *base
	moved.Plan.WorkingDirectory = "/srv/other"
	if moved.Digest() == base.Digest() {
		t.Error("another directory has the same digest")
	}
}

func TestDynamicUser(t *testing.T) {
	users := map[string]string{}
	for _, app := range []string{"root", "80", "backup", strings.Repeat("x", 28), strings.Repeat("x", 29), strings.Repeat("x", 200), strings.Repeat("x", 201)} {
		u := dynamicUser(app)
		if !accountName(u) || len(u) > 31 || !strings.HasPrefix(u, "ar-") {
			t.Errorf("%s runs as %s", app, u)
		}
		users[u] = app
	}
	if len(users) != 7 {
		t.Errorf("apps share users: %v", slices.Sorted(maps.Keys(users)))
	}
}

func TestWarnings(t *testing.T) {
	l := shopTree(t)
	s, err := ask(l, 0, "SECRET='"+dotenvtest.Canary+"'\nSYSTEMD_EXEC_START=/usr/bin/app $SECRET /bin/app\nPATH=/x\nLD_PRELOAD=/x\nSYSTEMD_USER=root\nSYSTEMD_RESTART=on-failure\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range s.Warnings {
		got = append(got, w.Error())
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{":2: SYSTEMD_EXEC_START has a $", ":2: SYSTEMD_EXEC_START has a variable replaced", ":2: SYSTEMD_EXEC_START has a path that leads through a link",
		":3: PATH", ":4: LD_PRELOAD", ":5: SYSTEMD_USER makes the app run as root", ":6: SYSTEMD_RESTART"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if !slices.IsSortedFunc(s.Warnings, func(a, b *Problem) int { return a.Line - b.Line }) {
		t.Errorf("not in the order of the lines:\n%s", all)
	}
	if strings.Contains(all, dotenvtest.Canary) {
		t.Error("a value stands in a warning")
	}
}

// Only code that lies in place is warned of.
func TestReleased(t *testing.T) {
	l := tree(t, map[string]string{
		"/etc/app-rollout/place.env":   "-> /srv/place/.env",
		"/etc/app-rollout/release.env": "-> /srv/release/current/.env",
		"/etc/app-rollout/given.env":   run + "SYSTEMD_WORKING_DIRECTORY=/srv/release/current\n",
		"/etc/app-rollout/root.env":    run,
		"/srv/place/.env":              run,
		"/srv/release/current":         "-> releases/1",
		"/srv/release/releases/1/.env": run,
		"/usr/bin/app":                 "#!",
	})
	for app, want := range map[string]bool{"place": true, "release": false, "given": false, "root": false} {
		if os.Getuid() != 0 {
			continue // the trees are root's
		}
		s, err := l.Read(app)
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, w := range s.Warnings {
			got = got || strings.Contains(w.Text, "is not deployed as a release")
		}
		if got != want {
			t.Errorf("%s: warned: %t", app, got)
		}
	}
}

// A user whose name is a number runs as what it is, not as that number.
func TestNumericName(t *testing.T) {
	l := shopTree(t)
	chownTree(t, l.Path("/srv/shop"))
	for name, want := range map[string]string{"alice": "alice", "0": fmt.Sprint(alice), "80": fmt.Sprint(alice), "al ice": fmt.Sprint(alice), "": fmt.Sprint(alice)} {
		s, err := l.Check(&Source{App: "shop", Path: "/srv/shop/.env", Linked: true, UID: uint32(alice), User: name, Text: []byte(run)})
		if err != nil || s.Plan.User != want {
			t.Errorf("%q: %v %+v", name, err, s)
		}
	}
	_, err := l.Check(&Source{App: "shop", Path: "/.env", UID: 1<<32 - 1, Text: []byte(run)})
	if got := strings.Join(lines(err), "\n"); !strings.Contains(got, "SYSTEMD_USER has no user") {
		t.Errorf("a file of nobody's: %s", got)
	}
}
