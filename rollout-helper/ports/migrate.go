package ports

import (
	"fmt"
	"os"
	"strings"
)

// migrate is the sysctl net.ipv4.tcp_migrate_req (Linux 5.14): when a listener
// closes, what waits in its queue moves to another listener of its group. It
// holds per network namespace.
const migrate = "/proc/sys/net/ipv4/tcp_migrate_req"

// SetMigrate turns net.ipv4.tcp_migrate_req on.
func SetMigrate() error {
	if on, err := Migrates(); err == nil && on {
		return nil // and so no right to write is needed
	}
	if err := os.WriteFile(migrate, []byte("1\n"), 0); err != nil {
		return fmt.Errorf("net.ipv4.tcp_migrate_req=1: %w", err)
	}
	return nil
}

// Migrates says whether net.ipv4.tcp_migrate_req is on.
func Migrates() (bool, error) {
	text, err := os.ReadFile(migrate)
	if err != nil {
		return false, err
	}
	return strings.TrimSpace(string(text)) == "1", nil
}
