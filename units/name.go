package units

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

const (
	// maxUnitName is systemd's UNIT_NAME_MAX less the final NUL (unit-name.h).
	maxUnitName = 255
	// maxInstanceDigits leaves room for every possible instance number.
	maxInstanceDigits = 10
	// maxApps bounds the apps of one run, so that a flooded directory delays the
	// boot by a bounded time.
	maxApps = 4096
)

// ValidName says whether app can be an app's name: [a-z0-9][a-z0-9_-]*, short
// enough for its unit names, and not one of this package's own.
func ValidName(app string) bool {
	if app == "" || strings.HasPrefix(app, "app-rollout") ||
		len(app)+len("@.service")+maxInstanceDigits > maxUnitName {
		return false
	}
	for i, c := range []byte(app) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case (c == '_' || c == '-') && i > 0:
		default:
			return false
		}
	}
	return true
}

// AppNames lists the apps of /etc/app-rollout, sorted. A file that looks like an
// app but has no valid name is a problem. Leftovers of editors and of dpkg, hidden
// files and *.off are skipped. Without the directory there are no apps.
func AppNames(l Layout) (names []string, problems []*Problem, err error) {
	at, err := l.tree().Walk(EtcDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer at.Close()
	if at.Kind() != unix.S_IFDIR {
		return nil, nil, &Problem{Path: EtcDir, Text: "is not a directory", Remedy: "move it away and create one"}
	}
	dir, err := os.Open(at.Reopen())
	if err != nil {
		return nil, nil, problem.System(EtcDir, "cannot be listed", err)
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, problem.System(EtcDir, "cannot be listed", err)
	}
	slices.Sort(all)
	for _, name := range all {
		app, isEnv := strings.CutSuffix(name, ".env")
		switch {
		case leftover(name):
		case !isEnv:
			problems = append(problems, &Problem{Path: EtcDir + "/" + problem.Printable(name),
				Text: "is no app: its name does not end in .env", Remedy: "rename or remove it"})
		case !ValidName(app):
			problems = append(problems, &Problem{Path: EtcDir + "/" + problem.Printable(name), Text: invalidName(app), Remedy: "rename it"})
		case len(names) == maxApps:
			problems = append(problems, &Problem{Path: EtcDir,
				Text:   "holds more than " + strconv.Itoa(maxApps) + " apps; those from " + app + " on are ignored",
				Remedy: "remove those that are not needed"})
			return names, problems, nil
		default:
			names = append(names, app)
		}
	}
	return names, problems, nil
}

// invalidName says why app cannot be an app's name, and what a name must be.
func invalidName(app string) string {
	if strings.HasPrefix(app, "app-rollout") {
		return "is no app: names that begin with app-rollout are this package's own"
	}
	return "is no app: its name must be of a-z, 0-9, _ and -, begin with a letter or digit, and have at most " +
		strconv.Itoa(maxUnitName-len("@.service")-maxInstanceDigits) + " characters"
}

// leftover says whether nobody meant a file of this name as an app.
func leftover(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") {
		return true
	}
	switch filepath.Ext(name) {
	case ".off", ".bak", ".swp", ".orig", ".old", ".rpmsave", ".rpmnew", ".tmp":
		return true
	}
	return strings.Contains(name, ".dpkg-") || strings.Contains(name, ".ucf-")
}

// unitDirs are the directories in which another package's or a person's unit may
// lie, in systemd's order, without the generators' output (systemd.unit(5)).
var unitDirs = []string{
	"/etc/systemd/system",
	UnitDir,
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// unitDirs are the ones that exist, each once: /lib is mostly a link to /usr/lib.
func (l Layout) unitDirs() (dirs []string) {
	if l.cache != nil {
		return l.cache.unitDirs()
	}
	var there []fs.FileInfo
	for _, dir := range unitDirs {
		info, err := os.Stat(l.Path(dir))
		if err == nil && !slices.ContainsFunc(there, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
			there, dirs = append(there, info), append(dirs, dir)
		}
	}
	return dirs
}

// Shadows refuses an app whose units would hide, or be hidden by, a unit that we
// have not generated.
func (l Layout) Shadows(app string) error {
	dirs := l.unitDirs()
	for _, unit := range []string{Service(app), Template(app)} {
		for _, dir := range dirs {
			path := dir + "/" + unit
			if l.foreign(path) {
				return &Problem{Path: EnvPath(app),
					Text: "the app would have the name of a unit that is installed as " + path, Remedy: "rename the file"}
			}
		}
	}
	if path := "/etc/init.d/" + app; exists(l.Path(path)) {
		return &Problem{Path: EnvPath(app),
			Text: "the app would have the name of the init script " + path, Remedy: "rename the file"}
	}
	return nil
}

// foreign says whether there is a file at path that we have not generated.
func (l Layout) foreign(path string) bool {
	host := l.Path(path)
	if !exists(host) {
		return false
	}
	fd, err := unix.Open(host, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	head := make([]byte, len(Header))
	n, err := unix.Read(fd, head)
	return err != nil || string(head[:n]) != Header
}

// exists says whether path exists, be it a dangling link.
func exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}
