package units

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

// adminDirs are the directories whose units systemd prefers to those of a generator,
// in systemd's order (systemd.unit(5)).
var adminDirs = []string{
	"/etc/systemd/system",
	UnitDir,
}

// vendorDirs are those to whose units systemd prefers a generator's.
var vendorDirs = []string{
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
}

// unitDirs are the directories in which another package's or a person's unit may
// lie, in systemd's order, without the generators' output.
var unitDirs = slices.Concat(adminDirs, vendorDirs)

// unitDirs are the ones that exist, each once: /lib is mostly a link to /usr/lib.
func (l Layout) unitDirs() (dirs []string) {
	var there []fs.FileInfo
	for _, dir := range unitDirs {
		info, err := os.Stat(l.Path(dir))
		if err == nil && !slices.ContainsFunc(there, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
			there, dirs = append(there, info), append(dirs, dir)
		}
	}
	return dirs
}

// Shadow is a file in the name of an app's unit that we have not written: systemd
// would start it in the place of ours, or ours in its place.
type Shadow struct {
	Unit string // shop@.service, shop.service or shop@3.service
	Path string // as a running system sees it
	kind shadowKind
}

type shadowKind int

const (
	masks     shadowKind = iota // a link to /dev/null or an empty file: systemd starts no such unit
	copies                      // it begins with our header, as after `systemctl edit --full`
	links                       // another link
	overrides                   // somebody's own unit
	installs                    // somebody's own unit, where systemd prefers ours to it
)

// Masks reports whether the file keeps systemd from starting the unit at all.
func (s Shadow) Masks() bool { return s.kind == masks }

// Beaten reports whether the generator can make systemd prefer our unit to the file: by
// its early directory. What somebody has masked is not to run, and what somebody has
// installed before us is not ours to hide.
func (s Shadow) Beaten() bool { return s.kind != masks && s.kind != installs }

// ShadowFiles are the shadows of an app's units, in systemd's order of directories.
func (l Layout) ShadowFiles(app string) (all []Shadow) {
	for _, path := range l.unitFiles(app) {
		if s, ok := l.shadow(path); ok {
			all = append(all, s)
		}
	}
	// systemd makes a unit of an init script (systemd-sysv-generator(8)).
	if path := initDir + app; exists(l.Path(path)) {
		all = append(all, Shadow{Unit: Service(app), Path: path, kind: installs})
	}
	return all
}

const initDir = "/etc/init.d/"

// Shadows refuses an app whose units would hide, or be hidden by, a unit that we
// have not generated. The error is one *Problem for each such file, but one for all
// that only another name for the app mends.
func (l Layout) Shadows(app string) error {
	var all []*Problem
	renamed := false // to tell once that the app needs another name is enough
	for _, s := range l.ShadowFiles(app) {
		p := l.shadowed(app, s)
		if p.Path == EnvPath(app) && renamed {
			continue
		}
		renamed = renamed || p.Path == EnvPath(app)
		all = append(all, p)
	}
	return joined(all)
}

// unitFiles are the files that have the names of the app's units.
func (l Layout) unitFiles(app string) []string {
	if l.cache != nil {
		return l.cache.unitFiles()[app]
	}
	return l.listUnits(app)[app]
}

// listUnits are the files whose names begin with prefix, by the apps whose units have
// their names. Within an app they are in systemd's order of directories.
func (l Layout) listUnits(prefix string) map[string][]string {
	files := make(map[string][]string)
	for _, dir := range l.unitDirs() {
		d, err := os.Open(l.Path(dir))
		if err != nil {
			continue // whoever may not read it learns less
		}
		names, _ := d.Readdirnames(-1)
		d.Close()
		slices.Sort(names)
		for _, name := range names {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if app := unitApp(name); app != "" {
				files[app] = append(files[app], dir+"/"+name)
			}
		}
	}
	return files
}

// unitApp is the app that could have a unit of that name, "" if none could.
func unitApp(unit string) string {
	if app, template := strings.CutSuffix(unit, "@.service"); template && ValidName(app) {
		return app
	}
	if i, ok := ParseInstance(unit); ok {
		return i.App
	}
	return ""
}

// shadow says what the file at a path is, unless it is ours.
func (l Layout) shadow(path string) (s Shadow, ok bool) {
	dir, unit := filepath.Dir(path), filepath.Base(path)
	s = Shadow{Unit: unit, Path: path}
	ours := l.ours(path)
	switch preferred := slices.Contains(adminDirs, dir); {
	case preferred && l.masked(path):
		s.kind = masks
	case ours && dir == UnitDir && !strings.HasSuffix(unit, "@.service"):
		return s, false // a rollout has written it
	case ours:
		s.kind = copies
	case !preferred:
		s.kind = installs
	case isLink(l.Path(path)):
		s.kind = links
	default:
		s.kind = overrides
	}
	return s, true
}

// shadowed is the problem of a shadow, with the command that mends it.
func (l Layout) shadowed(app string, s Shadow) *Problem {
	dropIn := Template(app)
	if s.Unit == Service(app) {
		dropIn = s.Unit
	}
	switch known := l.known(app); {
	case s.kind == masks:
		return &Problem{Path: s.Path, Text: "masks " + s.Unit + ", so that systemd does not start it", Remedy: unmask(s)}
	case s.kind == copies:
		return &Problem{Path: s.Path, Text: "is a copy of a unit that app-rollout generates, and stands in its way",
			Remedy: l.revert(s) + "; after that, changes go into a drop-in: systemctl edit --force " + dropIn}
	case s.kind == links && known:
		return &Problem{Path: s.Path, Text: "has the name of a unit of the app, but is a link that app-rollout has not made", Remedy: remove(s.Path)}
	case s.kind == overrides && known:
		return &Problem{Path: s.Path, Text: "has the name of a unit of the app, but app-rollout has not generated it",
			Remedy: "mv " + s.Path + " " + s.Path + ".off && " + reload}
	}
	what := "a unit that is installed as "
	if strings.HasPrefix(s.Path, initDir) {
		what = "the init script "
	}
	return &Problem{Path: EnvPath(app), Text: "the app would have the name of " + what + s.Path, Remedy: "rename the file"}
}

// known reports whether the app was ready once, as far as the user may see that: the
// generator makes no units of another app that has a shadow.
func (l Layout) known(app string) bool {
	return exists(l.State(app)+"/current") || l.generated(Template(app)) || l.generated(Service(app))
}

// generated reports whether the generator has made a unit.
func (l Layout) generated(unit string) bool { return exists(l.Path(GeneratorDir + "/" + unit)) }

const reload = "systemctl daemon-reload"

// remove is the command by which a unit file goes.
func remove(path string) string { return "rm " + path + " && " + reload }

// unmask is the command that takes a mask away: each directory has its own.
func unmask(s Shadow) string {
	if strings.HasPrefix(s.Path, UnitDir+"/") {
		return "systemctl unmask --runtime " + problem.Shell(s.Unit)
	}
	return "systemctl unmask " + problem.Shell(s.Unit)
}

// revert is the command that takes a copy away. `systemctl revert` does so only if the
// original is there under that very name, and it takes more away: drop-ins, and the file
// that a rollout has written for the one service of mode 0.
func (l Layout) revert(s Shadow) string {
	alone := slices.Contains(adminDirs, filepath.Dir(s.Path)) && l.generated(s.Unit)
	for _, dir := range slices.Concat(adminDirs, []string{"/etc/systemd/system.control", "/run/systemd/system.control"}) {
		if path := dir + "/" + s.Unit; exists(l.Path(path+".d")) || path != s.Path && exists(l.Path(path)) {
			alone = false
		}
	}
	if alone {
		return "systemctl revert " + s.Unit
	}
	return remove(s.Path)
}

// masked reports whether a file masks the unit of its name, as systemd sees it
// (null_or_empty in its src/basic/stat-util.c).
func (l Layout) masked(path string) bool {
	var st unix.Stat_t
	if unix.Stat(l.Path(path), &st) != nil {
		return false
	}
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK || kind == unix.S_IFREG && st.Size == 0
}

// ours reports whether a file begins with our header.
func (l Layout) ours(path string) bool {
	fd, err := unix.Open(l.Path(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	head := make([]byte, len(Header))
	n, err := unix.Read(fd, head)
	return err == nil && string(head[:n]) == Header
}

func isLink(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// exists says whether path exists, be it a dangling link.
func exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}
