package rollout

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"app-rollout/units/step"
)

// errBusy says that another run has the app's lock.
var errBusy = errors.New("another run is under way")

// lock takes the lock that whoever changes an app must have. The kernel releases it when
// its holder ends, however it ends: see flock(2).
func (m *Machine) lock(ctx context.Context, app string, wait bool) (release func(), err error) {
	dir := m.Layout.Run(app)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := m.take(ctx, app, f, wait); err != nil {
		return nil, err
	}
	// If somebody removes that file, the next run makes another one. So a run takes the
	// directory of the store too, unless the app is new and has none.
	d, err := os.Open(m.Layout.State(app))
	if errors.Is(err, fs.ErrNotExist) {
		return func() { f.Close() }, nil
	}
	if err == nil {
		err = m.take(ctx, app, d, wait)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { d.Close(); f.Close() }, nil
}

// take takes a lock on a file or directory, and closes it if it cannot have it.
func (m *Machine) take(ctx context.Context, app string, f *os.File, wait bool) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil || err == unix.EBADF { // NFS locks no directory
		return nil
	}
	if !wait {
		f.Close()
		return errBusy
	}
	m.Report(Event{App: app, Step: step.Lock, Text: "waiting for the run that is under way"})
	// A blocking flock cannot be cancelled. A goroutine waits for it, and closes the file
	// if nobody needs the lock any more.
	got := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if err != unix.EINTR {
				got <- err
				return
			}
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return ctx.Err()
	}
}

// locked does something with an app under its lock. again is the command that does it
// once more, for the remedy of an error; "" is a run of the app.
func (m *Machine) locked(ctx context.Context, app, again string, do func() error) error {
	release, err := m.lock(ctx, app, true)
	if err == nil {
		defer release()
		err = do()
	}
	if err == nil {
		return nil
	}
	return complete(rights(m.Layout, err), cmp.Or(again, m.again(app)))
}
