package vm

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// TestPowerCut replays a log in the format of dm-log-writes.
func TestPowerCut(t *testing.T) {
	var log bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&log, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(sector, sectors, flags uint64, fill string) {
		put([4]uint64{sector, sectors, flags, 0})
		put(make([]byte, logSector-32))
		put(bytes.Repeat([]byte(fill), int(sectors)*logSector))
	}
	put(make([]byte, logSector))
	entry(0, 2, 0, "a")
	entry(1, 1, 0, "b") // the later write wins
	entry(0, 0, logFlush, "")
	entry(3, 1, 0, "c")
	entry(0, 0, logFlush, "")
	entry(0, 4, 0, "x") // acknowledged, but never flushed
	entry(2, 1, 0, "y")
	put([]byte{1, 2, 3}) // qemu was killed while it wrote this

	dir := t.TempDir()
	disk, logged := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for name, text := range map[string][]byte{disk: bytes.Repeat([]byte("-"), 4*logSector), logged: log.Bytes()} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lost, err := powerCut(disk, logged)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Lost{Writes: 2, Bytes: 5 * logSector}); lost != want {
		t.Errorf("%v, want %v", lost, want)
	}
	got, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []byte("ab-c") {
		if !bytes.Equal(got[i*logSector:(i+1)*logSector], bytes.Repeat([]byte{want}, logSector)) {
			t.Errorf("sector %d has %q, want %q", i, got[i*logSector], want)
		}
	}
}
