package rollout

import (
	"context"
	"errors"
	"os"
	"testing"
)

// TestLockRemoved: who removes the lock's file does not let a second run begin beside
// the first one.
func TestLockRemoved(t *testing.T) {
	w := newWorld(t)
	m := w.machine()
	if err := os.Mkdir(w.layout.State("shop"), 0o700); err != nil {
		t.Fatal(err)
	}
	release, err := m.lock(t.Context(), "shop", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.layout.Run("shop")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.lock(t.Context(), "shop", false); !errors.Is(err, errBusy) {
		t.Errorf("a second lock: %v", err)
	}
	release()
	release, err = m.lock(t.Context(), "shop", false)
	if err != nil {
		t.Fatalf("a lock after it: %v", err)
	}
	release()
}

// TestLock: one rollout of an app at a time; a recovery does not wait for it,
// and a rollout that waits can be given up.
func TestLock(t *testing.T) {
	w := newWorld(t)
	m := w.machine()
	release, err := m.lock(t.Context(), "shop", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.lock(t.Context(), "shop", false); !errors.Is(err, errBusy) {
		t.Errorf("a second lock: %v", err)
	}
	if err := m.Recover(t.Context(), "shop"); err != nil || len(w.calls) > 0 {
		t.Errorf("Recover beside a run: %v, %v", err, w.calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() {
		_, err := m.lock(ctx, "shop", true)
		given <- err
	}()
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("a lock that is given up: %v", err)
	}
	go func() {
		second, err := m.lock(t.Context(), "shop", true)
		if err == nil {
			second()
		}
		given <- err
	}()
	release()
	if err := <-given; err != nil {
		t.Errorf("a lock that is waited for: %v", err)
	}
}
