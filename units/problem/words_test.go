package problem

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// An error of a system call comes with a remedy only where one is known.
func TestSystem(t *testing.T) {
	for errno, remedy := range map[unix.Errno]string{
		unix.EIO:     "see what the kernel says: dmesg",
		unix.EBADMSG: "see what the kernel says: dmesg",
		unix.EUCLEAN: "see what the kernel says: dmesg",
		unix.EAGAIN:  "end the program that holds a lease on it",
		unix.ELOOP:   "",
		unix.ENOTDIR: "",
		unix.ESTALE:  "",
		unix.EMFILE:  "",
	} {
		p := System("/srv/x", "cannot be read", &os.PathError{Op: "open", Path: "/somewhere", Err: errno})
		if want := (Problem{Path: "/srv/x", Text: "cannot be read: " + errno.Error(), Remedy: remedy}); *p != want {
			t.Errorf("%s: got %+v, want %+v", unix.ErrnoName(errno), *p, want)
		}
	}
}

// TestJoin: a line has no two marks in a row.
func TestJoin(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""}, {"a", "", "a"}, {"", "b", "b"}, {"a", "a", "a"},
		{"a", "b", "a; b"},
		{"Unit shop@4.service is masked.", "b", "Unit shop@4.service is masked; b"},
	} {
		if got := Join(c.a, c.b); got != c.want {
			t.Errorf("Join(%q, %q) = %q, want %q", c.a, c.b, got, c.want)
		}
	}
}
