package sockets

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters are some of the kernel's counters of this network namespace, for all
// ports together. A rollout records by how much they grew.
type Counters struct {
	// MigrateSuccess and MigrateFailure count connections that moved, or could
	// not move, from a listener that closed to another one.
	MigrateSuccess, MigrateFailure uint64
	// ListenDrops and ListenOverflows count handshakes that were refused because
	// a listener had no room.
	ListenDrops, ListenOverflows uint64
}

// ReadCounters reads the counters.
func ReadCounters() (Counters, error) {
	// The thread's own: /proc/net is that of the process's first thread.
	const path = "/proc/thread-self/net/netstat"
	text, err := os.ReadFile(path)
	if err != nil {
		return Counters{}, err
	}
	values, err := tcpExt(string(text))
	if err != nil {
		return Counters{}, fmt.Errorf("%s: %w", path, err)
	}
	return Counters{
		MigrateSuccess:  values["TCPMigrateReqSuccess"],
		MigrateFailure:  values["TCPMigrateReqFailure"],
		ListenDrops:     values["ListenDrops"],
		ListenOverflows: values["ListenOverflows"],
	}, nil
}

// Since returns by how much the counters grew since before.
func (c Counters) Since(before Counters) Counters {
	return Counters{
		MigrateSuccess:  c.MigrateSuccess - before.MigrateSuccess,
		MigrateFailure:  c.MigrateFailure - before.MigrateFailure,
		ListenDrops:     c.ListenDrops - before.ListenDrops,
		ListenOverflows: c.ListenOverflows - before.ListenOverflows,
	}
}

// tcpExt reads the two TcpExt lines of /proc/net/netstat: names, then values.
func tcpExt(text string) (map[string]uint64, error) {
	var names []string
	for _, line := range strings.Split(text, "\n") {
		rest, ok := strings.CutPrefix(line, "TcpExt: ")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if names == nil {
			names = fields
			continue
		}
		if len(fields) != len(names) {
			break
		}
		values := make(map[string]uint64, len(names))
		for i, name := range names {
			// A few of the counters may be negative; none of ours.
			values[name], _ = strconv.ParseUint(fields[i], 10, 64)
		}
		return values, nil
	}
	return nil, fmt.Errorf("no TcpExt counters")
}
