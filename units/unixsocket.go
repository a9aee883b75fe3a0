package units

import (
	"path/filepath"
	"slices"
	"strings"
)

// unixSocket says how a command names a Unix socket.
type unixSocket int

// A command may name one at which the app is the client. So only an option that is
// known says that the app listens on it.
const (
	noSocket    unixSocket = iota
	namedSocket            // it names one
	boundSocket            // it says that the app listens on one
)

// namesUnixSocket says how a command, with the script of a `sh -c` in it, names a Unix
// socket whose path is the same for all instances. Three kinds of paths are not: one in
// a script that holds a variable, which may be $SYSTEMD_INSTANCE; a relative one; and
// one below /tmp and /var/tmp, where each instance has files of its own
// (PrivateTmp=).
func namesUnixSocket(words []string) (how unixSocket) {
	all := words[:min(len(words), 64)]
	if script, ok := shellScript(words); ok {
		fields := strings.FieldsFunc(script, func(r rune) bool { return strings.ContainsRune(" \t\n;&|()<>\"'", r) })
		fields = slices.DeleteFunc(fields, func(w string) bool { return strings.Contains(w, "$") })
		all = fields[:min(len(fields), 64)]
	}
	server := ""
	for i, w := range all {
		if strings.HasPrefix(filepath.Base(w), "uwsgi") {
			server = "uwsgi"
		}
		option, value := "", w
		switch name, rest, cut := strings.Cut(w, "="); {
		case strings.HasPrefix(w, "-bunix:"):
			option, value = "-b", w[2:]
		case strings.HasPrefix(w, "-") && cut:
			option, value = name, rest
		case i > 0 && strings.HasPrefix(all[i-1], "-"):
			option = all[i-1]
		}
		path, isUnix := strings.CutPrefix(value, "unix:")
		path = strings.TrimPrefix(path, "//")
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, "/var/tmp/") {
			continue
		}
		switch {
		case isUnix && (option == "-b" || option == "--bind"), // gunicorn, hypercorn, puma
			option == "--uds", // uvicorn
			server == "uwsgi" && (option == "-s" || strings.HasSuffix(option, "socket")):
			return boundSocket
		case isUnix, strings.HasSuffix(option, "socket"):
			how = namedSocket
		}
	}
	return how
}
