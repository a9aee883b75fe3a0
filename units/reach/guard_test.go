package reach

import (
	"os"
	"testing"
)

// A file that grows while it is read is read to one byte beyond the limit and no further.
func TestReadAtMost(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	if text, err := readAtMost(int(r.Fd()), 10000); err != nil || len(text) != 10001 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	r.Close()
	w.Close()
}
