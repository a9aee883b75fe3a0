package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Who has seen enough ends the following, and that is no error.
func TestFollowEnds(t *testing.T) {
	bin := t.TempDir()
	const script = `#!/bin/sh
case "$*" in
*--follow*) echo '{"__CURSOR":"c","_SYSTEMD_UNIT":"shop@1.service","MESSAGE":"hello"}'; exec sleep 600;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shown := 0
	err := Logs{Apps: []string{"shop"}}.Follow(ctx, 0, func(Line) { shown++; cancel() })
	if !errors.Is(err, context.Canceled) || shown != 1 {
		t.Errorf("%d lines, %v", shown, err)
	}
}
