//go:build story

package test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"app-rollout/test/machine"
)

// steered says whether a steering program is attached to a listener of the
// machine, by whomever. The kernel does not tell which program a socket has;
// but the program holds its map of sockets, which goes with it, and reading the
// map gives the sockets' cookies, which ss shows too.
func steered(t *testing.T, m *machine.Machine) bool {
	t.Helper()
	cookies := map[uint64]bool{}
	for _, word := range strings.Fields(m.Sh("ss -Hltne")) {
		if hex, ok := strings.CutPrefix(word, "sk:"); ok {
			n, err := strconv.ParseUint(hex, 16, 64)
			if err != nil {
				t.Fatalf("ss says %s", word)
			}
			cookies[n] = true
		}
	}
	for id := ebpf.MapID(0); ; {
		var err error
		if id, err = ebpf.MapGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return false
		} else if err != nil {
			t.Fatal(err)
		}
		listeners, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // it has gone meanwhile
		}
		found := listeners.Type() == ebpf.SockMap && holds(listeners, cookies)
		listeners.Close()
		if found {
			return true
		}
	}
}

func holds(listeners *ebpf.Map, cookies map[uint64]bool) bool {
	for i := range min(listeners.MaxEntries(), 512) {
		var cookie uint64
		if listeners.Lookup(i, &cookie) == nil && cookies[cookie] {
			return true
		}
	}
	return false
}

// TestSteeredIsSeen: what the other stories look for can be seen.
func TestSteeredIsSeen(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{Install: true, Layers: []string{machine.Apps(t)}})
	m.Write("/etc/app-rollout/shop.env", shop("GENERATION=g1", "SYSTEMD_CLUSTER_WATCH_SEC=3"), 0o644)
	deploys(t, m, "shop")
	if steered(t, m) {
		t.Error("traffic is steered after the rollout")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan machine.Result, 1)
	go func() { done <- m.Run(ctx, "app-rollout", "run", "shop") }()
	m.Wait("steering", 20*time.Second, func() bool { return steered(t, m) })
	if r := <-done; r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if steered(t, m) {
		t.Error("traffic is steered after the rollout")
	}
}
