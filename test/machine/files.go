package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Write creates or replaces a file that root owns, and makes its directories (0755).
// It works with the power off too. No umask applies to mode.
func (m *Machine) Write(path, text string, mode fs.FileMode) {
	m.t.Helper()
	if m.Up() {
		r := m.RunInput(context.Background(), text, "install", "-D", "-m", fmt.Sprintf("%04o", mode), "/dev/stdin", path)
		if r.Code != 0 {
			m.t.Fatalf("write %s: %s", path, r.Err)
		}
		return
	}
	// With os.Root no link in the machine's tree leads out of it.
	root, err := os.OpenRoot(m.root)
	if err != nil {
		m.t.Fatalf("write %s: %v", path, err)
	}
	defer root.Close()
	path = strings.TrimPrefix(path, "/")
	for i, c := range path {
		if c != '/' {
			continue
		}
		if err := root.Mkdir(path[:i], 0o755); err != nil && !os.IsExist(err) {
			m.t.Fatalf("write: %v", err)
		}
	}
	f, err := root.Create(path)
	if err != nil {
		m.t.Fatalf("write: %v", err)
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		m.t.Fatalf("write %s: %v", path, err)
	}
}

// Read is the text of a file in the machine.
func (m *Machine) Read(path string) string {
	m.t.Helper()
	r := m.Run(context.Background(), "cat", "--", path)
	if r.Code != 0 {
		m.t.Fatalf("read %s: %s", path, r.Err)
	}
	return r.Out
}

// Exists says whether the machine has a file of that name, or a dangling link.
func (m *Machine) Exists(path string) bool {
	return m.Run(context.Background(), "sh", "-c", `[ -e "$1" ] || [ -L "$1" ]`, "sh", path).Code == 0
}

// Copy copies a file of the host into the machine, which must be up.
func (m *Machine) Copy(host, path string, mode fs.FileMode) {
	m.t.Helper()
	text, err := os.ReadFile(host)
	if err != nil {
		m.t.Fatalf("copy: %v", err)
	}
	m.Write(path, string(text), mode)
}

// Root is the repository's directory on the host.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == "/" {
			panic("no go.mod above " + dir)
		}
	}
}

// lockFile opens a file, creating it if need be, and locks it. Without wait it fails
// if the file is locked already. Closing the file releases the lock.
func lockFile(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// machineID is the text of a new /etc/machine-id. An image has none, and a
// boot without one would be a "first boot", which enables every unit.
func machineID() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(id[:]) + "\n", nil
}
