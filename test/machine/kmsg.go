package machine

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// KernelLog is what the host's kernel says from now on. The machines share this kernel.
type KernelLog struct{ fd int }

// OpenKernelLog needs root, and /dev/kmsg, which some containers lack.
func OpenKernelLog() (*KernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		return nil, errors.Join(fmt.Errorf("/dev/kmsg: %w", err), unix.Close(fd))
	}
	return &KernelLog{fd}, nil
}

// Trouble returns the records since then that tell of a fault in the kernel. It is to be
// called once.
func (l *KernelLog) Trouble() (found []string) {
	for _, r := range l.records() {
		if text, is := trouble(r); is {
			found = append(found, text)
		}
	}
	return found
}

func (l *KernelLog) records() (all []string) {
	defer unix.Close(l.fd)
	record := make([]byte, 8192) // no record is longer
	for {
		n, err := unix.Read(l.fd, record)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // some have been overwritten
		}
		if err != nil || n <= 0 {
			return all // EAGAIN: this was the last
		}
		all = append(all, string(record[:n]))
	}
}

// fault is how the kernel begins its reports of faults of its own. What a busy or paused
// computer gets is not here: lockups, stalls, tasks that are blocked, no memory.
var fault = regexp.MustCompile(`^(WARNING: |BUG: |kernel BUG at |Oops\b|refcount_t: |general protection fault|UBSAN: |Unable to handle kernel )`)

// lockup is a BUG that a busy host has without a fault.
var lockup = regexp.MustCompile(`lockup`)

// trouble takes a record of /dev/kmsg apart, and says whether it tells of a fault. The
// format is "priority,number,time,flags;text" (Documentation/ABI/testing/dev-kmsg).
// Anybody may write a record; the kernel's own have the facility 0.
func trouble(record string) (text string, is bool) {
	prefix, text, _ := strings.Cut(record, ";")
	priority, _, _ := strings.Cut(prefix, ",")
	text, _, _ = strings.Cut(text, "\n")
	n, err := strconv.Atoi(priority)
	return text, err == nil && n>>3 == 0 && fault.MatchString(text) && !lockup.MatchString(text)
}
