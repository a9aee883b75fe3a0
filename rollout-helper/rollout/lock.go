package rollout

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"app-rollout/units/step"
)

// errBusy: another run has the app's lock.
var errBusy = errors.New("another run is under way")

// lock is held by whoever changes an app. The kernel lets go of it when the
// holder dies, however it dies: see flock(2).
func (m *Machine) lock(ctx context.Context, app string, wait bool) (release func(), err error) {
	dir := m.Layout.Run(app)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return func() { f.Close() }, nil
	}
	if !wait {
		f.Close()
		return nil, errBusy
	}
	m.Report(Event{App: app, Step: step.Lock, Text: "waiting for the run that is under way"})
	// A blocking flock cannot be given up: leave it to a goroutine that closes
	// the file if nobody waits for it any more.
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
			return nil, err
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return nil, ctx.Err()
	}
}

// locked does something with an app while nobody else does. again is the command
// that has it done once more, for whoever reads why it failed.
func (m *Machine) locked(ctx context.Context, app, again string, do func() error) error {
	release, err := m.lock(ctx, app, true)
	if err == nil {
		defer release()
		err = do()
	}
	return complete(err, again)
}
