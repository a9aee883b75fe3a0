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

// steered reports whether a steering program is attached to a listener of the machine,
// whoever attached it. The kernel does not tell which program a socket has. But the
// program keeps its map of sockets, and the map gives the sockets' cookies, which ss
// shows too.
func (a *app) steered() bool {
	a.t.Helper()
	cookies := map[uint64]bool{}
	for _, word := range strings.Fields(a.Sh("ss -Hltne")) {
		if hex, ok := strings.CutPrefix(word, "sk:"); ok {
			n, err := strconv.ParseUint(hex, 16, 64)
			if err != nil {
				a.t.Fatalf("ss says %s", word)
			}
			cookies[n] = true
		}
	}
	for id := ebpf.MapID(0); ; {
		var err error
		if id, err = ebpf.MapGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return false
		} else if err != nil {
			a.t.Fatal(err)
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

// TestSteeredIsSeen: steered sees steering while there is some, and only then.
func TestSteeredIsSeen(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.deploy("GENERATION=g1", "SYSTEMD_CLUSTER_WATCH_SEC=3")
	if shop.steered() {
		t.Error("traffic is steered after the rollout")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan machine.Result, 1)
	go func() { done <- shop.Run(ctx, "app-rollout", "run", "shop") }()
	shop.Wait("steering", 20*time.Second, shop.steered)
	if r := <-done; r.Code != 0 {
		t.Errorf("%+v", r)
	}
	if shop.steered() {
		t.Error("traffic is steered after the rollout")
	}
}
