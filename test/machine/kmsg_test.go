package machine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestKernelLog: what is written after the log was opened is seen.
func TestKernelLog(t *testing.T) {
	l, err := OpenKernelLog()
	if err != nil {
		t.Skip(err)
	}
	hello := fmt.Sprintf("the process %d tests its way to the log", os.Getpid())
	if err := os.WriteFile("/dev/kmsg", []byte("<6>"+hello+"\n"), 0); err != nil {
		t.Skip(err)
	}
	if all := l.records(); !slices.ContainsFunc(all, func(r string) bool { return strings.Contains(r, hello) }) {
		t.Errorf("%q is not among %q", hello, all)
	}
}

func TestTrouble(t *testing.T) {
	for record, want := range map[string]string{
		"4,1234,5678,-;WARNING: CPU: 1 PID: 12 at net/core/skbuff.c:100 skb_x+0x1/0x2\n":          "WARNING: CPU: 1 PID: 12 at net/core/skbuff.c:100 skb_x+0x1/0x2",
		"1,1,1,-;BUG: kernel NULL pointer dereference, address: 0000000000000008\n SUBSYSTEM=x\n": "BUG: kernel NULL pointer dereference, address: 0000000000000008",
		"4,1,1,-;refcount_t: underflow; use-after-free.\n":                                        "refcount_t: underflow; use-after-free.",
		"0,1,1,-;Oops: 0002 [#1] PREEMPT SMP\n":                                                   "Oops: 0002 [#1] PREEMPT SMP",
		"12,1,1,-;WARNING: somebody has written this to /dev/kmsg\n":                              "", // the facility "user"
		"0,1,1,-;watchdog: BUG: soft lockup - CPU#0 stuck for 22s!\n":                             "",
		"0,1,1,-;BUG: workqueue lockup - pool cpus=0 node=0\n":                                    "",
		"3,1,1,-;rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n":                         "",
		"3,1,1,-;Memory cgroup out of memory: Killed process 12 (server)\n":                       "",
		"5,1,1,-;audit: type=1400 audit(1.1:2): apparmor=\"DENIED\" WARNING: no\n":                "",
		"6,1,1,-;veth0: renamed from there\n":                                                     "",
		"nonsense":                                                                                "",
	} {
		text, is := trouble(record)
		if is != (want != "") || is && text != want {
			t.Errorf("%q: %q, %v", record, text, is)
		}
	}
}
