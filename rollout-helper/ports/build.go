package ports

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"app-rollout/rollout-helper/sockets"
)

// Build says how the programs that are in force compare with those that this
// helper carries.
type Build string

// The builds.
const (
	None    Build = "none"    // some program is not in force
	Older   Build = "older"   // they are another build's; the next rollout replaces them
	Current Build = "current" // they are this build's
)

// signature is the value of the pinned map: which object the programs in force were
// loaded from, and their ids, by which it is told from what another version of this
// package pinned later. The kernel's own tag of a program covers neither its maps
// nor its constants.
type signature struct {
	Object   [sha256.Size]byte
	Programs [len(pins)]ebpf.ProgramID // in the order of pins
}

// signatureMap is the pin of the map with the signature.
const signatureMap = "build"

func signatureOf(ids [len(pins)]ebpf.ProgramID) signature {
	return signature{Object: sha256.Sum256(_ShareBytes), Programs: ids}
}

// sign writes down that the programs with these ids are of this build.
func sign(dir string, ids [len(pins)]ebpf.ProgramID) error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name:       "ar_build",
		Type:       ebpf.Array,
		KeySize:    4,
		ValueSize:  sha256.Size + 4*uint32(len(pins)),
		MaxEntries: 1,
		Contents:   []ebpf.MapKV{{Key: uint32(0), Value: signatureOf(ids)}},
	})
	if err != nil {
		return fmt.Errorf("making a BPF map: %w", err)
	}
	defer m.Close()
	return place(m.Pin, filepath.Join(dir, signatureMap))
}

// InForce returns which build is pinned in dir and attached to the control group at
// path. If it is none, the error says what is missing.
func InForce(dir, path string) (Build, error) {
	if err := InBPFFS(dir); err != nil {
		return None, err
	}
	cgroup, err := sockets.CgroupID(path)
	if err != nil {
		return None, err
	}
	var ids [len(pins)]ebpf.ProgramID
	for i, p := range pins {
		pin := filepath.Join(dir, p.name)
		linked, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return None, fmt.Errorf("%s: %w", pin, err)
		}
		ids[i], err = programOf(linked, cgroup)
		linked.Close()
		if err != nil {
			return None, fmt.Errorf("%s: %w", pin, err)
		}
	}
	// What cannot be read was written by another version.
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, signatureMap), nil)
	if err != nil {
		return Older, nil
	}
	defer m.Close()
	var found signature
	if err := m.Lookup(uint32(0), &found); err != nil || found != signatureOf(ids) {
		return Older, nil
	}
	return Current, nil
}
