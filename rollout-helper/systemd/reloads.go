package systemd

import "sync"

// reloads lets those who want a daemon-reload at the same time share one. It must
// have begun after each of them asked, for only then has it read the files of
// all.
type reloads struct {
	mu   sync.Mutex
	next *reload // not begun yet
	busy sync.Mutex
}

type reload struct {
	once sync.Once
	err  error
}

func (r *reloads) do(f func() error) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = new(reload)
	}
	mine := r.next
	r.mu.Unlock()

	r.busy.Lock()
	defer r.busy.Unlock()
	mine.once.Do(func() {
		r.mu.Lock()
		r.next = nil // those who ask from here on need another one
		r.mu.Unlock()
		mine.err = f()
	})
	return mine.err
}
