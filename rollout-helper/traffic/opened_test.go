package traffic

import (
	"errors"
	"testing"
	"time"

	"app-rollout/rollout-helper/closing"
)

// TestOpened: what was opened in time stays opened when that time has passed.
func TestOpened(t *testing.T) {
	past := time.Now().Add(-time.Minute)
	opened := &telling{deadline: past, opened: make(chan struct{})}
	close(opened.opened)
	for range 100 {
		if err := opened.ready(); err != nil {
			t.Fatal(err)
		}
	}
	opening := &telling{deadline: past, opened: make(chan struct{})}
	if err := opening.ready(); !errors.Is(err, closing.ErrLate) {
		t.Errorf("%v, want that it is being opened", err)
	}
}
