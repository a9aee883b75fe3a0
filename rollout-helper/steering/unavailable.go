package steering

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Unavailable is the error of what cannot be steered here: the rollout goes on
// without. Reason is for a person, and ends with no full stop.
type Unavailable struct {
	Reason string
	Err    error // the cause, if it was an error
}

func (u *Unavailable) Error() string { return u.Reason }
func (u *Unavailable) Unwrap() error { return u.Err }

// errENOTSUPP is the kernel's internal ENOTSUPP, which some calls leak.
const errENOTSUPP = unix.Errno(524)

// unavailable explains an error of the kernel's to a person.
func unavailable(doing string, err error) error {
	var already *Unavailable
	if errors.As(err, &already) {
		return err
	}
	reason := doing + ": " + err.Error()
	switch {
	case denied(err):
		reason = doing + " is not permitted (it needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_PTRACE; a security module or lockdown may forbid it)"
	case errors.Is(err, unix.ENOSYS):
		reason = doing + ": the kernel was built without it"
	}
	return &Unavailable{Reason: reason, Err: err}
}

func denied(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }
