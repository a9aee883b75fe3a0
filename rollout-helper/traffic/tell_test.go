package traffic

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"app-rollout/rollout-helper/closing"
)

// TestStuck: nobody waits for ever for programs that the kernel does not take.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, stuck := New(), make(chan struct{})
		k.openClosing = func(string) (*closing.Closing, error) {
			select {
			case <-stuck:
			case <-time.After(time.Hour):
			}
			return nil, errors.New("given up")
		}
		defer close(stuck)
		began := time.Now()
		if err := k.Tell("shop", nil); !errors.Is(err, closing.ErrLate) {
			t.Errorf("Tell: %v", err)
		}
		if told, untold := k.Told("shop"); told != 0 || untold != 0 {
			t.Errorf("%d told, %d not", told, untold)
		}
		if err := k.EndTell("shop"); err != nil {
			t.Errorf("EndTell: %v", err)
		}
		if took := time.Since(began); took > openTime {
			t.Errorf("waited for %v", took)
		}
	})
}
