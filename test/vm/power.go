package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A disk has a cache of its own: data is safe only when the kernel has flushed that
// cache. Killing qemu loses nothing, because the host's page cache lives on. So qemu
// works on a copy of the disk and logs each write and each flush (its driver
// blklogwrites, in the format of the kernel's dm-log-writes). When the power is cut,
// everything that was flushed is written to the disk itself, and the rest is lost.

// Lost is what a disk's cache held when the power was cut.
type Lost struct {
	Writes int
	Bytes  int64
}

func (l Lost) String() string {
	return fmt.Sprintf("%d writes (%d KiB) in the disk's cache are lost", l.Writes, l.Bytes>>10)
}

// logSector is the unit of the log, in bytes. The header of the log fills the first
// sector. The head of each entry fills one, and the data follows it.
const logSector = 512

// logFlush marks the entry of a flush.
const logFlush = 1

// powerCut brings the disk to the state that the last flush left it in.
func powerCut(disk, log string) (Lost, error) {
	in, err := os.Open(log)
	if err != nil {
		return Lost{}, err
	}
	defer in.Close()
	out, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return Lost{}, err
	}
	defer out.Close()
	type write struct{ from, to, size int64 }
	var cached []write
	for at := int64(logSector); ; {
		var entry struct{ Sector, Sectors, Flags, DataLen uint64 }
		err := binary.Read(io.NewSectionReader(in, at, logSector), binary.LittleEndian, &entry)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return Lost{}, err
		}
		if err != nil || entry.Sectors == 0 && entry.Flags == 0 {
			break // nothing was logged after it
		}
		at += logSector
		if size := int64(entry.Sectors) * logSector; size > 0 {
			cached = append(cached, write{at, int64(entry.Sector) * logSector, size})
			at += size
		}
		if entry.Flags&logFlush == 0 {
			continue
		}
		for _, w := range cached {
			if _, err := io.Copy(io.NewOffsetWriter(out, w.to), io.NewSectionReader(in, w.from, w.size)); err != nil {
				return Lost{}, err
			}
		}
		cached = nil
	}
	lost := Lost{Writes: len(cached)}
	for _, w := range cached {
		lost.Bytes += w.size
	}
	return lost, out.Close()
}
