package sockets

import (
	"errors"
)

// Listener is one listening TCP socket.
type Listener struct {
	Group
	// Cgroup is the id of the control group that the socket was made in: the
	// inode number of that group's directory.
	Cgroup uint64
	// Cookie names the socket for as long as the machine is up. Inode is what
	// /proc/PID/fd shows; the kernel may use it again.
	Cookie uint64
	Inode  uint32
	// Queued is how many connections wait to be accepted.
	Queued uint32
	// UID is the user that made it; only this user can share its port.
	UID uint32
	// MPTCP is true for a Multipath TCP listener, which cannot be steered. The
	// kernel shows it as a TCP socket that carries "mptcp".
	MPTCP bool
}

// ErrNoCgroups is the error on a kernel that does not tell the control groups of
// sockets (before Linux 5.8, or built without CONFIG_SOCK_CGROUP_DATA).
var ErrNoCgroups = errors.New("the kernel does not say which control group a socket belongs to (needs Linux 5.8)")

// Listeners returns every TCP listener of this network namespace.
func Listeners() ([]Listener, error) {
	// What a socket carries (attrULP) is told only along with tcp_info.
	rows, err := dump(query{states: 1 << stateListen, info: true})
	if err != nil {
		return nil, err
	}
	listeners := make([]Listener, 0, len(rows))
	known := len(rows) == 0
	for _, r := range rows {
		known = known || r.cgroup != 0
		listeners = append(listeners, Listener{
			Group:  Group{Addr: r.local, V6Only: r.v6only, Device: r.device},
			Cgroup: r.cgroup,
			Cookie: r.cookie,
			Inode:  r.inode,
			Queued: r.rqueue,
			UID:    r.uid,
			MPTCP:  r.ulp == "mptcp",
		})
	}
	if !known {
		return nil, ErrNoCgroups
	}
	return listeners, nil
}
