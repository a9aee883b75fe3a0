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
