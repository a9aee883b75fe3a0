//go:build story

package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
	"app-rollout/test/servers"
)

// TestGuides does what each guide says, block by block, on a machine of its own:
// ```sh blocks are run, and each line of a ```text block must be in the output of
// the one before it ("…" at its end: anything). A block under <!-- fails --> must
// fail. prepare puts there what a guide takes for granted.
func TestGuides(t *testing.T) {
	guides, err := filepath.Glob(filepath.Join(machine.Root(), "packaging/guides/*.md"))
	if err != nil || len(guides) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	for _, path := range guides {
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		if name == "upgrades" || name == "notify" {
			continue // TestNeedrestart and TestNotify follow them
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			options := machine.Options{}
			switch name {
			case "node", "pm2":
				options.Layers = append(options.Layers, machine.Node(t))
			case "python", "ruby", "nginx":
				options.Packages = servers.Packages()
			}
			m := newShop(t, options)
			prepare(t, m, name, string(text))
			m.follows(string(text), func() {})
		})
	}
}

// follows does what a guide says. It calls before before each block that it runs.
func (a *app) follows(guide string, before func()) {
	a.t.Helper()
	out := ""
	for _, b := range blocks(guide) {
		switch b.kind {
		case "sh":
			before()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			r := a.Run(ctx, "sh", "-euc", "cd /root\n"+b.text)
			cancel()
			out = r.Out + "\n" + r.Err
			if (r.Code != 0) != b.fails {
				a.t.Fatalf("status %d of\n%s\n%s", r.Code, b.text, out)
			}
			a.t.Logf("%s\n%s", b.text, out)
		case "text":
			for line := range strings.Lines(b.text) {
				if line = strings.TrimSpace(line); !says(out, line) {
					a.t.Errorf("no line %q in\n%s", line, out)
				}
			}
		}
	}
}

type block struct {
	kind, text string
	fails      bool
}

var fence = regexp.MustCompile("(?ms)^(<!-- fails -->\n)?```([a-z]*)\n(.*?)^```\n")

func blocks(guide string) (all []block) {
	for _, m := range fence.FindAllStringSubmatch(guide, -1) {
		all = append(all, block{kind: m[2], text: m[3], fails: m[1] != ""})
	}
	return all
}

func says(out, want string) bool {
	begin, open := strings.CutSuffix(want, "…")
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == want || open && strings.HasPrefix(line, begin) {
			return true
		}
	}
	return false
}

// prepare puts there what a guide takes for granted.
func prepare(t *testing.T, m *app, name, guide string) {
	m.Write("/usr/local/bin/curl", curl, 0o755)
	switch name {
	case "node":
		m.Sh("ln -s /usr/local/bin/node /usr/bin/node")
	case "pm2":
		// The app of the guide on Node. Something else runs it, which is told to stop it.
		m.Sh("ln -s /usr/local/bin/node /usr/bin/node")
		node, err := os.ReadFile(filepath.Join(machine.Root(), "packaging/guides/node.md"))
		if err != nil {
			t.Fatal(err)
		}
		setUp, _, _ := strings.Cut(blocks(string(node))[0].text, "cat >/srv/shop/.env")
		m.Sh(setUp + "chown -R shop: /srv/shop\nsystemd-run --unit=pm2-shop --uid=shop --setenv=PORT=3000 /usr/bin/node /srv/shop/server.js")
		m.Write("/usr/local/bin/pm2", "#!/bin/sh\nif [ \"$1\" = stop ]; then systemctl stop pm2-shop; fi\n", 0o755)
	case "ci":
		// The job runs where the server is, and as root.
		m.Write("/usr/local/bin/ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n", 0o755)
		m.Write("/usr/local/bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755)
		m.Sh("mkdir -p /etc/sudoers.d")
	case "go":
		dir := t.TempDir()
		for _, b := range blocks(guide) {
			if b.kind == "go" {
				hostWrite(t, filepath.Join(dir, "main.go"), b.text)
			}
		}
		hostWrite(t, filepath.Join(dir, "go.mod"), "module shop\n\ngo 1.24\n")
		build := exec.Command("go", "build", "-o", "shop", ".")
		build.Dir = dir
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		m.Copy(filepath.Join(dir, "shop"), "/root/shop", 0o755)
	}
}

// curl does what the guides need of curl, which the images do not have.
const curl = `#!/usr/bin/python3
import sys, urllib.request
data = sys.argv[sys.argv.index("--data") + 1].encode() if "--data" in sys.argv else None
sys.stdout.write(urllib.request.urlopen(sys.argv[-1], data, timeout=10).read().decode())
`
