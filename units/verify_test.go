package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What we render is what systemd understands, without a word of complaint, and
// what is rendered without any setting is a sandbox worth the name.
func TestSystemdTakesIt(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("left out: no systemd-analyze here")
	}
	l := tree(t, map[string]string{
		"/usr/bin/true": "#!", "/srv/a b/x": "", "/srv/100%/x": "", "/home/alice/app/.env": "", "/home/alice/app/x": "#!",
		"/etc/passwd": passwd, "/etc/group": groups,
	})
	every, err := os.ReadFile("testdata/every.env")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if !strings.Contains(string(every), s.Name+"=") {
			t.Errorf("%s is not tried", s.Name)
		}
	}
	for _, c := range []struct {
		name, text string
		uid        uint32
		sandbox    bool
	}{
		{"every@1.service", string(every), 0, false},
		{"dynamic@1.service", "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/true\n", 0, true},
		{"one.service", "SYSTEMD_EXEC_START=/usr/bin/true\nPORT=443\n", 0, true},
		{"user@1.service", "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_EXEC_START=/usr/bin/true\nPORT=3000\n", 1000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := &Source{App: "shop", Path: "/home/alice/app/.env", Linked: c.uid == 0, UID: c.uid, User: "daemon", Text: []byte(c.text)}
			s, err := l.Check(src)
			if err != nil {
				t.Fatal(err)
			}
			// The name must be none that the machine has.
			path := filepath.Join(t.TempDir(), "app-rollout-test-"+c.name)
			text := s.Unit("/var/lib/app-rollout/shop/generations/1")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			verified := func(path string) {
				verify := exec.Command(analyze, "--man=no", "verify", path)
				if said, err := verify.CombinedOutput(); err != nil || len(said) > 0 {
					t.Errorf("%v %s in\n%s", err, said, text)
				}
			}
			verified(path)
			if text = s.ReleaseUnit("/var/lib/app-rollout/shop/generations/1"); text != "" {
				release := filepath.Join(t.TempDir(), "app-rollout-test-release@shop.service")
				if err := os.WriteFile(release, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				verified(release)
			}
			if !c.sandbox {
				return
			}
			security := exec.Command(analyze, "security", "--offline=yes", "--threshold=20", path)
			said, err := security.CombinedOutput()
			if err != nil {
				t.Errorf("%v %s", err, said)
			}
			all := strings.Split(strings.TrimSpace(string(said)), "\n")
			t.Log(all[len(all)-1])
		})
	}
}
