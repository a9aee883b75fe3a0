package command

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/units"
)

var update = flag.Bool("update", false, "write the settings into the page")

const (
	man        = "../../packaging/man/"
	settingsIn = man + "app-rollout.env.5"
	begin      = ".\\\" settings: begin"
	end        = ".\\\" settings: end\n"
)

// The commands' flags, the settings and the pages tell the same.
func TestPages(t *testing.T) {
	people, services := page(t, man+"app-rollout.1"), page(t, man+"rollout-helper.8")
	for _, command := range newApp("", streams{}).Commands {
		text := people
		if command.Category != "" {
			text = services
		}
		if !strings.Contains(text, "\\fB"+command.Name+"\\fR") && !strings.Contains(text, "\n.B "+command.Name+"\n") {
			t.Errorf("no page tells of the command %s", command.Name)
		}
		for _, f := range command.Flags {
			for _, name := range f.Names() {
				if !strings.Contains(text, roffFlag(name)) {
					t.Errorf("no page tells of %s %s", command.Name, dashed(name))
				}
			}
		}
		for _, name := range []string{"help", "version"} {
			if !strings.Contains(people, roffFlag(name)) {
				t.Errorf("the page does not tell of --%s", name)
			}
		}
	}

	text := page(t, settingsIn)
	head, rest, ok := strings.Cut(text, begin)
	line, rest, _ := strings.Cut(rest, "\n")
	_, tail, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no place for the settings", settingsIn)
	}
	want := head + begin + line + "\n" + settingsPage() + end + tail
	if *update {
		if err := os.WriteFile(settingsIn, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if text != want {
		t.Errorf("%s is not what the settings table says; run: go test ./rollout-helper/command -run TestPages -update", settingsIn)
	}
}

// settingsPage is the table of settings in man(7).
func settingsPage() string {
	var b strings.Builder
	for _, s := range units.Settings() {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s.\n", s.Name, roff(s.Help))
		var notes []string
		if s.Directive != "" {
			notes = append(notes, "Directive: \\fI"+s.Directive+"=\\fR")
		}
		if otherwise := s.Otherwise; s.Default != "" || otherwise != "" {
			if s.Default != "" {
				otherwise = s.Default
			}
			if otherwise == "required" {
				notes = append(notes, "Required")
			} else {
				notes = append(notes, "Default: "+roff(otherwise))
			}
		}
		if s.Root {
			notes = append(notes, "Only \\fIroot\\fR")
		}
		fmt.Fprintf(&b, "%s.\n", strings.Join(notes, ". "))
	}
	return b.String()
}

func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "…", "...").Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

func roffFlag(name string) string { return strings.ReplaceAll(dashed(name), "-", `\-`) }

// Each completion knows each command that people use, with its flags, and
// where the names of apps come from.
func TestCompletions(t *testing.T) {
	for _, path := range []string{"app-rollout.bash", "app-rollout.zsh", "app-rollout.fish"} {
		text := page(t, "../../packaging/completions/"+path)
		if !strings.Contains(text, "/etc/app-rollout") {
			t.Errorf("%s does not complete the names of apps", path)
		}
		for _, command := range newApp("", streams{}).Commands {
			if command.Category != "" {
				continue
			}
			if !strings.Contains(text, command.Name) {
				t.Errorf("%s lacks the command %s", path, command.Name)
			}
			for _, f := range command.Flags {
				want := dashed(f.Names()[0])
				if strings.HasSuffix(path, ".fish") {
					want = "-l " + f.Names()[0]
				}
				if !mentions(text, command.Name, want) {
					t.Errorf("%s lacks %s %s", path, command.Name, want)
				}
			}
		}
	}
}

// mentions says whether one line has both.
func mentions(text, a, b string) bool {
	for line := range strings.Lines(text) {
		if strings.Contains(line, a) && strings.Contains(line, b) {
			return true
		}
	}
	return false
}

// The completions do what they should, in those shells that are here.
func TestCompletionShells(t *testing.T) {
	for _, test := range []struct{ shell, script, want string }{
		{"bash", `source ../../packaging/completions/app-rollout.bash
			COMP_WORDS=(app-rollout st); COMP_CWORD=1; _app_rollout; echo "${COMPREPLY[@]}"
			COMP_WORDS=(app-rollout status --j); COMP_CWORD=2; _app_rollout; echo "${COMPREPLY[@]}"
			COMP_WORDS=(app-rollout run --); COMP_CWORD=2; _app_rollout; echo "${COMPREPLY[@]}"`,
			"status\n--json\n--help\n"},
	} {
		if _, err := exec.LookPath(test.shell); err != nil {
			t.Logf("no %s here", test.shell)
			continue
		}
		out, err := exec.Command(test.shell, "-c", test.script).CombinedOutput()
		if err != nil || string(out) != test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.shell, err, out, test.want)
		}
	}
	for shell, args := range map[string][]string{"zsh": {"-n", "app-rollout.zsh"}, "fish": {"--no-execute", "app-rollout.fish"}} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		cmd := exec.Command(shell, args...)
		cmd.Dir = "../../packaging/completions"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

// man has nothing to complain about.
func TestManWarnings(t *testing.T) {
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("no man here")
	}
	pages, err := filepath.Glob(man + "*.[1-8]")
	if err != nil || len(pages) != 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, path := range pages {
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80", "MANPAGER=cat")
		cmd.Stdout = nil
		var warnings strings.Builder
		cmd.Stderr = &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v\n%s", path, err, warnings.String())
		}
	}
}

func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
