package rollout

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// surge warns if there may be too little memory to run the new instances beside the old
// ones. It expects each new one to use as much as an old one does. It is "" if there is
// enough, or if that cannot be found out.
func (r *rollout) surge() string {
	if len(r.was) == 0 {
		return ""
	}
	var used uint64
	for _, name := range r.was {
		used += r.seen[name].Memory
	}
	need := used / uint64(len(r.was)) * uint64(len(r.fresh))
	text, err := os.ReadFile(r.Layout.Path("/proc/meminfo"))
	if err != nil {
		return ""
	}
	available, ok := memAvailable(text)
	if !ok || need <= available {
		return ""
	}
	return fmt.Sprintf("%d MiB of memory are available, but %s may need %d MiB, as the running ones use %d MiB: some may be killed for want of memory",
		available>>20, list(r.fresh), need>>20, used>>20)
}

// memAvailable is MemAvailable of /proc/meminfo, in bytes: the kernel's estimate of what
// new programs can use without swapping (proc_meminfo(5)).
func memAvailable(meminfo []byte) (uint64, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(meminfo)); lines.Scan(); {
		value, ok := strings.CutPrefix(lines.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		return kib << 10, err == nil
	}
	return 0, false
}
