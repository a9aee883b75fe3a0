// Package units says what an app is and which systemd units run it: where its
// files lie, how its .env is read and checked, and what is rendered from it. It
// talks to no daemon, so that the generator can use it before anything runs.
package units

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"app-rollout/units/problem"
	"app-rollout/units/reach"
)

// Problem is what is wrong with an app, and what to do.
type Problem = problem.Problem

// Where things are, as a running system sees them.
const (
	EtcDir   = "/etc/app-rollout"     // the apps' .env files
	StateDir = "/var/lib/app-rollout" // the generations, for ever
	RunDir   = "/run/app-rollout"     // instance numbers and locks, until reboot
	BPFDir   = "/run/app-rollout-bpf" // the pinned port-sharing programs
	UnitDir  = "/run/systemd/system"  // unit files of what a rollout has started

	GeneratorDir = "/run/systemd/generator" // where systemd lets generators write
)

// Target is the unit that wants the instances that the boot starts.
const Target = "multi-user.target"

// Slice is the unit of the instances for which SO_REUSEPORT is set, and SliceGroup
// its control group: the programs that set it are attached to the whole slice.
const (
	Slice      = `system-app\x2drollout\x2dports.slice`
	SliceGroup = "/system.slice/" + Slice
)

// Layout finds these places below a root, for tests. The zero value is the running
// system. Its methods return paths to open. A path that is written into a unit
// never contains the root.
type Layout struct {
	Root  string
	cache *cache // see Cached
}

// Path is where an absolute path of the running system lies below the root.
func (l Layout) Path(path string) string { return filepath.Join(l.Root, path) }

// cache is what a run over many apps looks up once.
type cache struct {
	dirs      *reach.Cache
	unitFiles func() map[string][]string
	runFiles  func() ([]string, error)
	boot      func() string
}

// Cached is the layout for one short run over many apps. During the run a directory
// that is renamed is still found under its old name, and a new one may not be
// found. release ends the run.
func (l Layout) Cached() (cached Layout, release func()) {
	all := func() map[string][]string { return l.listUnits("") }
	c := &cache{dirs: reach.NewCache(), unitFiles: sync.OnceValue(all), runFiles: sync.OnceValues(l.UnitFiles), boot: sync.OnceValue(Layout{Root: l.Root}.Boot)}
	return Layout{Root: l.Root, cache: c}, c.dirs.Close
}

// OneMoment reports whether the layout is Cached, so that whoever has it may keep what it has
// read of an app.
func (l Layout) OneMoment() bool { return l.cache != nil }

// tree follows paths, of which any part may belong to somebody who means harm.
func (l Layout) tree() reach.Tree {
	t := reach.Tree{Root: l.Root}
	if l.cache != nil {
		t.Cache = l.cache.dirs
	}
	return t
}

// UserID is the id of a user in /etc/passwd. It is false if the user has no entry
// there: a dynamic user, or one of another source of names.
func (l Layout) UserID(name string) (uint32, bool) { return l.tree().Accounts().ID(name) }

// EnvPath is the file or link that makes app an app, as a running system sees it.
func EnvPath(app string) string { return EtcDir + "/" + app + ".env" }

// Env is EnvPath below the root.
func (l Layout) Env(app string) string { return l.Path(EnvPath(app)) }

// State is where app's generations are kept.
func (l Layout) State(app string) string { return l.Path(StateDir + "/" + app) }

// Run is where app's instance numbers and its lock are kept until reboot.
func (l Layout) Run(app string) string { return l.Path(RunDir + "/" + app) }

// BootID is the kernel's id of this boot, as journalctl takes it; "" if it cannot be
// read.
func (l Layout) BootID() string {
	id, err := os.ReadFile(l.Path("/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(id)), "-", "")
}

// Boot tells one boot of this system from every other one. It is the boot id together
// with the time at which PID 1 was started, because a container may have the boot id
// of its host; see proc_pid_stat(5), starttime. It is "" if that cannot be read.
func (l Layout) Boot() string {
	if l.cache != nil {
		return l.cache.boot()
	}
	const starttime = 22
	id := l.BootID()
	stat, err := os.ReadFile(l.Path("/proc/1/stat"))
	if err != nil || id == "" {
		return ""
	}
	// The second field is a name in parentheses, and may hold anything.
	end := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat)[end+1:])
	if end < 0 || len(fields) <= starttime-3 {
		return ""
	}
	return id + " " + fields[starttime-3]
}

// UnitFile is where a rollout writes a unit file of its own.
func (l Layout) UnitFile(unit string) string { return l.Path(UnitDir + "/" + unit) }

// UnitFiles are the names of the regular files in UnitDir; none if it is not there.
func (l Layout) UnitFiles() (names []string, err error) {
	if l.cache != nil {
		return l.cache.runFiles()
	}
	entries, err := os.ReadDir(l.Path(UnitDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Rolled says whether a unit runs and was started by a rollout. Such a unit has a
// file of its own, and needs no link from the target.
func (l Layout) Rolled(unit string) bool {
	_, file := os.Lstat(l.UnitFile(unit))
	if file != nil {
		return false
	}
	// PID 1 keeps a link for each unit that runs, for journald. It keeps none while
	// the unit waits for its restart; that costs only one more daemon-reload.
	_, running := os.Lstat(l.Path("/run/systemd/units/invocation:" + unit))
	return running == nil
}

// The files of a generation's directory that its unit names.
const (
	EnvFile         = "env"         // the .env's text, as it was: SourcePath=
	EnvironmentFile = "environment" // EnvironmentFile=
)

// FirstGeneration is the directory, below the output of our generator, in which it
// freezes an app that was never rolled out.
func FirstGeneration(out, app string) string { return out + "/" + app + ".generation" }

// SourcePath is the SourcePath= of a unit of a generation. It shows which
// generation the unit belongs to.
func SourcePath(app string, number int) string { return GenerationDir(app, number) + "/" + EnvFile }

// ParseSourcePath is the number of the generation that a SourcePath= belongs to. It is
// false if no generation in the app's store has it: the generator froze it, and no run
// has recorded it yet.
func ParseSourcePath(app, source string) (number int, ok bool) {
	number, err := strconv.Atoi(filepath.Base(filepath.Dir(source)))
	if err != nil || source != SourcePath(app, number) {
		return 0, false
	}
	return number, true
}

// GenerationDir is the directory of one generation, as units name it.
func GenerationDir(app string, number int) string {
	return StateDir + "/" + app + "/generations/" + strconv.Itoa(number)
}
