package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/problem"
)

// Line is one line that an app has in the journal.
type Line struct {
	Time  time.Time
	Unit  string // the instance's, without .service, or "shop release"; "" in a line of a rollout
	App   string
	About bool   // systemd says it of the instance
	Level string // the record's PRIORITY
	Text  string
}

// From names who says a line.
func (l Line) From() string {
	switch {
	case l.About:
		return l.Unit + " systemd"
	case l.Unit == "":
		return l.App + " rollout"
	}
	return l.Unit
}

// Logs reads what apps have in the journal: the lines of all of their instances, those
// of their rollouts, and what systemd says when an instance ends. Only fields that
// journald itself writes say whose a line is, because every local user can write the
// others.
type Logs struct{ Apps []string }

// Last returns the last lines, at most so many, the oldest first.
func (l Logs) Last(ctx context.Context, most int) ([]Line, error) {
	records, err := l.last(ctx, most)
	var lines []Line
	for _, r := range slices.Backward(records) {
		line, _ := l.line(r)
		lines = append(lines, line.split()...)
	}
	return lines[max(0, len(lines)-most):], err
}

// last returns the last records, the newest first.
func (l Logs) last(ctx context.Context, most int) (records []Record, err error) {
	if most == 0 {
		return nil, nil
	}
	match, err := l.past()
	if err != nil {
		return nil, err
	}
	return records, read(ctx, append([]string{"--reverse"}, match...), func(r Record) bool {
		if _, ok := l.line(r); ok {
			records = append(records, r)
		}
		return len(records) < most
	})
}

// Follow shows the last lines, at most so many, and then every new one. It ends with an
// error, or with the context; then the error is the context's.
func (l Logs) Follow(ctx context.Context, most int, show func(Line)) error {
	records, err := l.last(ctx, most)
	if err != nil {
		return err
	}
	var from, after string
	if len(records) > 0 {
		from = records[len(records)-1].Cursor
	} else if from, err = end(); err != nil {
		return err
	} else {
		after = from
	}
	match, err := l.future()
	if err != nil {
		return err
	}
	if from != "" {
		match = append(match, "--cursor="+from)
	}
	if err := read(ctx, append([]string{"--follow", "--lines=all"}, match...), func(r Record) bool {
		if line, ok := l.line(r); ok && r.Cursor != after {
			for _, one := range line.split() {
				show(one)
			}
		}
		return true
	}); err != nil {
		return err
	}
	return errors.New("journalctl has ended")
}

// past are the matches, for journalctl, of what the apps have in the journal, and of
// little else: units that 0.1.0 made do not mark their records with units.LogField, but
// the journal can list the names of all units that it knows.
func (l Logs) past() ([]string, error) {
	out, err := exec.Command("journalctl", "--quiet", "--field=_SYSTEMD_UNIT").Output()
	if err != nil {
		return nil, failure(err)
	}
	var match, senders, abouts []string
	for _, app := range l.Apps {
		match = append(match, units.LogField+"="+app)
	}
	for unit := range strings.Lines(string(out)) {
		if unit = strings.TrimSpace(unit); l.owner(unit) != "" {
			senders = append(senders, "_SYSTEMD_UNIT="+unit)
			abouts = append(abouts, "UNIT="+unit)
		}
	}
	if len(senders) > 0 {
		match = slices.Concat(match, []string{"+"}, senders, []string{"+", "_PID=1"}, abouts)
	}
	return match, nil
}

// future are the matches that instances have too which are yet to come, and whose
// unit is as old as 0.1.0: those of the slices that instances run in.
func (l Logs) future() ([]string, error) {
	match, err := l.past()
	if err != nil {
		return nil, err
	}
	match = append(match, "+", "_PID=1", "+", "_SYSTEMD_SLICE="+units.Slice)
	for _, app := range l.Apps {
		// The slice that systemd gives to the instances of a template; see systemd.slice(5).
		match = append(match, `_SYSTEMD_SLICE=system-`+strings.ReplaceAll(app, "-", `\x2d`)+`.slice`)
	}
	return match, nil
}

// owner is the app that a unit is an instance of, or whose release command it runs; ""
// if it is neither.
func (l Logs) owner(unit string) string {
	app := units.ReleasedApp(unit)
	if instance, ok := units.ParseInstance(unit); ok {
		app = instance.App
	}
	if !slices.Contains(l.Apps, app) {
		return ""
	}
	return app
}

// short is how lines name a unit of an app.
func short(app, unit string) string {
	if unit == units.ReleaseService(app) {
		return app + " release"
	}
	return strings.TrimSuffix(unit, ".service")
}

// line makes a line of a record, if it is the apps'.
func (l Logs) line(r Record) (Line, bool) {
	line := Line{Time: r.Time, Level: r.Priority, Text: r.Text}
	if app := l.owner(r.Sender); app != "" {
		line.App, line.Unit = app, short(app, r.Sender)
		return line, true
	}
	if r.PID == "1" {
		// A notice is worth a line: that the main process exited. That the instance was
		// started, the rollout says.
		app := l.owner(r.About)
		line.App, line.Unit, line.About = app, short(app, r.About), true
		line.Text = strings.TrimPrefix(r.Text, r.About+": ")
		return line, app != "" && r.Priority <= "5"
	}
	if service(r.Sender) || r.UID == "0" && service(r.Service) {
		line.App = r.App
		line.Text = strings.TrimPrefix(r.Text, r.App+": ")
		return line, slices.Contains(l.Apps, r.App)
	}
	return line, false
}

// service says whether a unit is one of those that roll apps out. Those of release
// commands are not: what an app says there is not believed to come from us.
func service(unit string) bool {
	return strings.HasPrefix(unit, "app-rollout") && strings.HasSuffix(unit, ".service") && units.ReleasedApp(unit) == ""
}

// split makes a line of each line of a message.
func (l Line) split() (lines []Line) {
	for text := range strings.Lines(l.Text) {
		l.Text = printable(strings.TrimRight(text, "\r\n"))
		lines = append(lines, l)
	}
	return lines
}

// read passes on what journalctl prints, until next does not want more or the context
// ends.
func read(ctx context.Context, args []string, next func(Record) bool) error {
	cmd := exec.CommandContext(ctx, "journalctl", append([]string{"--quiet", "--all", "--output=json"}, args...)...)
	// It gets a process group of its own, so that Ctrl-C ends only this program, which
	// then knows why journalctl has ended.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	runtime.LockOSThread() // the signal comes when the thread ends that has started it
	defer runtime.UnlockOSThread()
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return failure(err)
	}
	for s := bufio.NewReader(out); ; {
		text, err := s.ReadBytes('\n')
		if err != nil {
			break
		}
		if r, ok := parseRecord(text); ok && !next(r) {
			_ = cmd.Process.Kill()
			_, _ = io.Copy(io.Discard, out)
			_ = cmd.Wait()
			return nil
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return failure(fmt.Errorf("%w %s", err, strings.TrimSpace(said.String())))
	}
	return nil
}

// end is the cursor of the journal's last record; "" if it is empty.
func end() (string, error) {
	out, err := exec.Command("journalctl", "--quiet", "--lines=1", "--output=json").Output()
	if err != nil {
		return "", failure(err)
	}
	r, _ := parseRecord(out)
	return r.Cursor, nil
}

// ErrHidden says that the user sees nothing in the journal, for want of rights.
var ErrHidden = &problem.Problem{Text: "the journal hides what is not yours", Remedy: "try sudo, or join the group systemd-journal"}

func failure(err error) error {
	if Hidden() {
		return ErrHidden
	}
	return fmt.Errorf("the journal cannot be read: %w", err)
}

// Hidden says whether the user sees own records only; see journalctl(1).
func Hidden() bool {
	hidden := false
	for _, dir := range []string{"/var/log/journal", "/run/log/journal"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*", "system.journal"))
		for _, path := range files {
			f, err := os.Open(path)
			if err == nil {
				f.Close()
				return false
			}
			hidden = true
		}
	}
	return hidden
}
