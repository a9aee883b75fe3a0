package servers

import (
	"strings"
	"testing"
)

// TestAll: each server has a name of its own, a command, and the file that it reads.
func TestAll(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All {
		if seen[s.Name] || s.Name == "" || s.Exec == "" {
			t.Errorf("%+v has no name of its own, or no command", s)
		}
		seen[s.Name] = true
		if text := s.EnvFile(2); !strings.Contains(text, "GENERATION=g2\n") || strings.Contains(text, "{g}") {
			t.Errorf("%s: the .env of its second generation is\n%s", s.Name, text)
		}
		path, text := s.File(3)
		if s.Template != "" && (path != "/opt/apps/g3/"+s.Template || !strings.Contains(text, "g3")) {
			t.Errorf("%s: the file of its third generation is %s:\n%s", s.Name, path, text)
		}
	}
}

// TestWrkLost reads what wrk prints: without errors, with them, with one for each
// request, and nothing.
func TestWrkLost(t *testing.T) {
	const sum = "  44621 requests in 4.00s, 5.53MB read\n"
	for out, want := range map[string]string{
		sum: "0 of 44621",
		sum + "  Socket errors: connect 1, read 2, write 3, timeout 4\n":     "10 of 44621",
		sum + "  Socket errors: connect 0, read 44000, write 0, timeout 0\n": "keeps none",
	} {
		if got, err := WrkLost(out); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if got, err := WrkLost("unable to connect"); err == nil {
		t.Errorf("%q without a summary", got)
	}
}
