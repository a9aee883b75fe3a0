package units

import "strings"

// Setting is one SYSTEMD_… variable, or PORT. The table of settings says what each
// is called, what it becomes, who may set it, and which values it takes.
type Setting struct {
	Name      string
	Section   string // of the unit; "" if it steers the rollout and stands in no unit
	Directive string
	Default   string // what counts when the variable is missing; "" means none
	Otherwise string // the default in words, where it is no fixed text
	Root      bool   // only in an .env that root owns
	Expands   bool   // a variable may be replaced in its value
	Help      string // one line for the pages

	// Each setting has one of these two. They enter a value in the spec.

	// apply is for a setting that counts when it is in the .env or has a Default. It
	// returns what the value must be, "" if it is that.
	apply func(s *Spec, directive, value string) (must string)
	// decide is for a setting that counts in any case: value is "" if it is not given.
	decide func(s *Spec, l Layout, value string, given bool) *Problem
	// last: it is decided after all others, because it depends on one of them.
	last bool
}

// enter checks what an .env says of the setting and enters it in the spec.
func (set Setting) enter(s *Spec, l Layout, value string, given bool) *Problem {
	if set.decide != nil {
		return set.decide(s, l, value, given)
	}
	if !given {
		if set.Default == "" {
			return nil
		}
		value = set.Default
	}
	if must := set.apply(s, set.Directive, value); must != "" {
		return &Problem{Text: "must be " + must}
	}
	return nil
}

// prefix begins the name of each setting but PORT.
const prefix = "SYSTEMD_"

// Settings is the table, in the order of the pages.
func Settings() []Setting { return settings }

const (
	sectionService = "Service"
	sectionUnit    = "Unit"
)

var settings = []Setting{
	{Name: "SYSTEMD_CLUSTER_MODE", Default: "0", apply: mode,
		Help: "0: one service APP.service; 1: instances APP@1.service, APP@2.service … of a template"},
	{Name: "SYSTEMD_CLUSTER_NODES", Default: "2", apply: nodes,
		Help: "the number of instances in mode 1: 1 to 256, or auto for one per CPU"},
	{Name: "SYSTEMD_EXEC_START", Section: sectionService, Directive: "ExecStart", Otherwise: "required", Expands: true, decide: (*Spec).command, last: true,
		Help: "the command: an absolute path, or ./x in the working directory, and its arguments; no shell runs it, and systemd's special prefixes are refused"},
	{Name: "SYSTEMD_USER", Section: sectionService, Directive: "User", Otherwise: "the owner of the .env; a dynamic user ar-APP if that is root", decide: (*Spec).asUser,
		Help: "the user that the app runs as; an owner other than root can only name itself"},
	{Name: "SYSTEMD_WORKING_DIRECTORY", Section: sectionService, Directive: "WorkingDirectory", Otherwise: "the directory of the real .env if the one in /etc/app-rollout is a link, else /", decide: (*Spec).workingDirectory,
		Help: "the directory that the app runs in; links are resolved when it is rolled out; for an owner other than root, it must lie inside the real .env's directory"},
	{Name: "SYSTEMD_READ_WRITE_PATHS", Section: sectionService, Directive: "ReadWritePaths", Otherwise: "the working directory, unless it is /", decide: (*Spec).readWritePaths,
		Help: "directories that the app may write to, separated by spaces; for an owner other than root, they must lie inside the real .env's directory"},
	{Name: "PORT", Otherwise: "none", Expands: true, apply: port,
		Help: "the port that every instance must listen on to be ready; it belongs to the first app that is ready on it; only root's .env files may have one below 1024"},
	{Name: "SYSTEMD_CLUSTER_REUSE_PORT", Default: "1", apply: reusePort,
		Help: "1: app-rollout sets SO_REUSEPORT for the app when it binds its port; 0: the app sets it itself"},
	{Name: "SYSTEMD_CLUSTER_HEALTH_PATH", apply: healthPath, Otherwise: "none",
		Help: "an HTTP path on PORT; each new instance must answer it with 2xx or 3xx; without one it is enough that an instance accepts a connection, and a server that accepts but cannot answer is taken for ready: set one (see app-rollout(7), When an instance is ready)"},
	{Name: "SYSTEMD_CLUSTER_HEALTH_HOST", apply: healthHost, Otherwise: "localhost:PORT",
		Help: "the Host header of that request, for an app that answers only to the names it knows"},
	{Name: "SYSTEMD_CLUSTER_READY_SEC", Default: "60", apply: readySec,
		Help: "seconds that new instances have to become ready, 1 to 600"},
	{Name: "SYSTEMD_CLUSTER_WATCH_SEC", Default: "3", apply: watchSec,
		Help: "seconds that new instances must run under real traffic without failing before the old ones are stopped, 0 to 600"},
	{Name: "SYSTEMD_CLUSTER_DRAIN_SEC", Default: "30", apply: drainSec,
		Help: "seconds that old instances have to finish what they have in hand, 0 to 3600; of the old value and a new one the shorter counts"},
	{Name: "SYSTEMD_CLUSTER_DRAIN_KEEPALIVE", Default: "close", apply: drainKeepalive,
		Help: "close: while old instances drain, their answers tell kept-alive HTTP/1 clients to close; leave: the answers stay as they are"},
	{Name: "SYSTEMD_CLUSTER_DRAIN_UNTIL", Default: "answered", apply: drainUntil,
		Help: "answered: old instances are stopped as soon as they owe no answer, which closes the connections at rest; closed: when every connection is gone, WebSockets, HTTP/2 and streams too, or the drain time is over"},
	{Name: "SYSTEMD_CLUSTER_RELEASE_COMMAND", Otherwise: "none", Expands: true, decide: (*Spec).releaseCommand, last: true,
		Help: "a command that each rollout runs once before it starts anything, as a migration of the database: written like SYSTEMD_EXEC_START, and run with the app's user, sandbox, directory and variables; if it fails, nothing is touched"},
	{Name: "SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC", Default: "600", apply: releaseSec,
		Help: "seconds that the release command has, 1 to 86400; then it is stopped, and the rollout has failed"},
	{Name: "SYSTEMD_CLUSTER_BALANCE", Default: "hash", apply: balance,
		Help: "which instance gets a new connection between rollouts: hash, one by the kernel's hash; leastconn, the one with the fewest connections that wait for an answer, then the fewest connections (Linux 6.1 or newer)"},
	{Name: "SYSTEMD_DESCRIPTION", Section: sectionUnit, Directive: "Description", Otherwise: "APP", apply: description,
		Help: "what systemctl calls the app"},
	{Name: "SYSTEMD_TYPE", Section: sectionService, Directive: "Type", Default: "exec", apply: serviceType,
		Help: "exec, simple, or notify for an app that says READY=1 itself"},
	{Name: "SYSTEMD_RESTART", Section: sectionService, Directive: "Restart", Default: "always", apply: oneOf("always", "on-failure", "on-abnormal"),
		Help: "when systemd restarts an instance that has ended: always, on-failure or on-abnormal"},
	{Name: "SYSTEMD_RESTART_SEC", Section: sectionService, Directive: "RestartSec", Default: "5s", apply: restartSec,
		Help: "how long systemd waits before it restarts an instance, 100ms to 10min"},
	{Name: "SYSTEMD_TIMEOUT_STOP_SEC", Section: sectionService, Directive: "TimeoutStopSec", Default: "30s", apply: timeoutStopSec,
		Help: "how long an instance has to stop before it is killed, 1s to 1h"},
	{Name: "SYSTEMD_KILL_SIGNAL", Section: sectionService, Directive: "KillSignal", Default: "SIGTERM", apply: oneOf("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"),
		Help: "the signal that asks the app to stop"},
	{Name: "SYSTEMD_KILL_MODE", Section: sectionService, Directive: "KillMode", Otherwise: "mixed", apply: oneOf("mixed", "control-group"),
		Help: "which processes of an instance get that signal: mixed, the main one alone; control-group, all of them"},

	{Name: "SYSTEMD_GROUP", Section: sectionService, Directive: "Group", Root: true, Otherwise: "the user's own", apply: valid(accountName, "the name or number of a group"),
		Help: "the group that the app runs as"},
	{Name: "SYSTEMD_SUPPLEMENTARY_GROUPS", Section: sectionService, Directive: "SupplementaryGroups", Root: true, Otherwise: "the user's own", apply: list(accountName, "names or numbers of groups, separated by spaces"),
		Help: "the app's additional groups, separated by spaces"},
	{Name: "SYSTEMD_AFTER", Section: sectionUnit, Directive: "After", Root: true, Otherwise: "none", apply: list(orderable, "names of services, sockets or mounts, separated by spaces; this package's own are not among them"),
		Help: "services, sockets and mounts that the app starts after, separated by spaces"},
	{Name: "SYSTEMD_REQUIRES", Section: sectionUnit, Directive: "Requires", Root: true, Otherwise: "none", apply: list(orderable, "names of services, sockets or mounts, separated by spaces; this package's own are not among them"),
		Help: "services, sockets and mounts without which the app does not run"},
	{Name: "SYSTEMD_LIMIT_NOFILE", Section: sectionService, Directive: "LimitNOFILE", Root: true, Otherwise: "systemd's", apply: valid(fileLimit, "a number of files, or SOFT:HARD with SOFT no more than HARD"),
		Help: "the number of files that an instance may have open, or SOFT:HARD"},
	{Name: "SYSTEMD_MEMORY_MAX", Section: sectionService, Directive: "MemoryMax", Root: true, Otherwise: "no limit", apply: valid(memory, "a number of bytes, with K, M, G or T if you like, or a percentage, or infinity"),
		Help: "the memory of one instance: bytes, with K, M, G or T if you like, or a percentage, or infinity"},
	{Name: "SYSTEMD_CPU_QUOTA", Section: sectionService, Directive: "CPUQuota", Root: true, Otherwise: "no limit", apply: valid(cpuShare, "a percentage of one CPU, as 150%"),
		Help: "the CPU time of one instance in percent of one CPU, like 150%"},
	{Name: "SYSTEMD_CPU_WEIGHT", Section: sectionService, Directive: "CPUWeight", Root: true, Otherwise: "systemd's", apply: valid(cpuWeight, "a number from 1 to 10000"),
		Help: "the share of CPU time that an instance gets when CPU time is short, 1 to 10000"},
	{Name: "SYSTEMD_TASKS_MAX", Section: sectionService, Directive: "TasksMax", Root: true, Otherwise: "systemd's", apply: valid(tasks, "a number, a percentage, or infinity"),
		Help: "the threads and processes of one instance: a number, a percentage, or infinity"},
	{Name: "SYSTEMD_UMASK", Section: sectionService, Directive: "UMask", Default: "0027", Root: true, apply: valid(octalMode, "an octal number, as 0027"),
		Help: "the file mode creation mask, in octal"},
	{Name: "SYSTEMD_PRIVATE_TMP", Section: sectionService, Directive: "PrivateTmp", Default: "yes", Root: true, apply: toggle(),
		Help: "give the app a /tmp of its own"},
	{Name: "SYSTEMD_PRIVATE_DEVICES", Section: sectionService, Directive: "PrivateDevices", Default: "yes", Root: true, apply: toggle(),
		Help: "give the app no devices except /dev/null and the like"},
	{Name: "SYSTEMD_PROTECT_HOME", Section: sectionService, Directive: "ProtectHome", Root: true, Otherwise: "yes; read-only if the app lies in a home directory", apply: toggle("read-only", "tmpfs"),
		Help: "hide /home, /root and /run/user, or make them read-only"},
	{Name: "SYSTEMD_PROTECT_PROC", Section: sectionService, Directive: "ProtectProc", Default: "invisible", Root: true, apply: oneOf("invisible", "noaccess", "ptraceable", "default"),
		Help: "what the app sees of other users' processes"},
	{Name: "SYSTEMD_MEMORY_DENY_WRITE_EXECUTE", Section: sectionService, Directive: "MemoryDenyWriteExecute", Default: "no", Root: true, apply: toggle(),
		Help: "forbid memory that is writable and executable; this breaks every JIT compiler (Node, Java, PHP …)"},
	{Name: "SYSTEMD_RESTRICT_ADDRESS_FAMILIES", Section: sectionService, Directive: "RestrictAddressFamilies", Default: "AF_INET AF_INET6 AF_UNIX AF_NETLINK", Root: true, apply: list(addressFamily, "names as AF_INET, separated by spaces"),
		Help: "the kinds of sockets the app may open, separated by spaces"},
	{Name: "SYSTEMD_RESTRICT_NAMESPACES", Section: sectionService, Directive: "RestrictNamespaces", Default: "yes", Root: true, apply: toggle(),
		Help: "forbid namespaces; the sandbox of a headless browser needs the value no"},
}

// setting finds a setting by name.
func setting(name string) (Setting, bool) {
	for _, s := range settings {
		if s.Name == name {
			return s, true
		}
	}
	return Setting{}, false
}

// nearest is the setting whose name differs least from name, "" if none resembles it:
// if more than half of its own characters, without the prefix, would change.
func nearest(name string) string {
	own := bare(name)
	best, least := "", len(own)/2+1
	for _, s := range settings {
		known := bare(s.Name)
		if own == known {
			return s.Name // SYSTEMD_PORT
		}
		if own == "" || !strings.HasPrefix(s.Name, prefix) {
			continue
		}
		d := distance(own, known)
		switch {
		case strings.HasSuffix(known, "_"+own):
			d = 0 // SYSTEMD_HOST
		case own[0] != known[0]:
			continue // two words may have much in common, and mean two things
		}
		if d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// bare is a setting's name without what many names have in common.
func bare(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, prefix), "CLUSTER_")
}

// distance counts the characters to insert and remove to get from a to b. A
// changed one counts twice, so that NODE is nearer to NODES than to MODE.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change += 2
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
