package units

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

// tree is a root directory for a Layout. Every directory is 0755 and every
// file 0644, whatever the umask; a text that begins with "-> " makes a link,
// and "#!" a program.
func tree(t testing.TB, files map[string]string) Layout {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil || d.Type()&os.ModeSymlink != 0:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o755)
		}
		data, err := os.ReadFile(path)
		if strings.HasPrefix(string(data), "#!") {
			return errors.Join(err, os.Chmod(path, 0o755))
		}
		return errors.Join(err, os.Chmod(path, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return Layout{Root: root}
}

// needRoot leaves a test out that gives files to other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("left out: only root can give files to other users")
	}
}

// lines are the messages of an error.
func lines(err error) []string {
	var all []string
	for _, e := range problem.Each(err) {
		all = append(all, e.Error())
	}
	return all
}
