//go:build bench

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// page is RESULTS.md as it grows.
type page struct {
	t    *testing.T
	dir  string
	text strings.Builder
	// better are the figures in which somebody else is ahead, in order.
	better []*better
}

// better is one figure, ours, and those of who are ahead.
type better struct {
	what, ours string
	others     []string
}

// ahead notes that somebody's figure is better than ours.
func (p *page) ahead(what, ours, who, figure string) {
	i := slices.IndexFunc(p.better, func(b *better) bool { return b.what == what })
	if i < 0 {
		i, p.better = len(p.better), append(p.better, &better{what: what, ours: ours})
	}
	p.better[i].others = append(p.better[i].others, who+" "+figure)
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.text, format, args...) }

func (p *page) heading(text string) { p.printf("\n## %s\n\n", text) }

// picture writes an SVG beside the page, and shows it there.
func (p *page) picture(name, what string, s *SVG) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(s.String()), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.printf("\n![%s](%s)\n", what, name)
}

// deploys is how many of each a run measures.
func deploys() int {
	if os.Getenv("FULL") == "1" {
		return 20
	}
	return 5
}

// TestBench measures everything and writes RESULTS.md.
func TestBench(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sudo make bench")
	}
	p := &page{t: t, dir: filepath.Join(machine.Root(), "test", "bench")}
	began := time.Now()
	load := loadAverage()
	b := newBed(t)
	seen := b.peers()
	p.generator()
	p.deploys(seen)
	p.between(seen)
	p.badDeploys(seen)
	p.growth()
	p.steps(seen)
	p.pictures(seen)
	if t.Failed() {
		t.Fatal("no RESULTS.md from a run that failed")
	}

	var out strings.Builder
	fmt.Fprintf(&out, `# Results

Made by `+"`sudo make bench`"+`: everything below was measured in one run on one machine, on %s. Run it again on yours; no test asserts any of it.

- %s, %d CPUs, Linux %s; Debian 12 with its own systemd in a container, Go %s, Node 22.
- Load average when it began: %s. It took %.0f minutes. %d deploys each.
- Clients, apps and tools share the CPUs.

`, began.UTC().Format(time.DateOnly), cpuModel(), runtime.NumCPU(), kernel(), strings.TrimPrefix(runtime.Version(), "go"), load, time.Since(began).Minutes(), deploys())
	out.WriteString("## Where others do better\n\n")
	for _, b := range p.better {
		fmt.Fprintf(&out, "- %s (app-rollout %s): %s.\n", b.what, b.ours, strings.Join(b.others, ", "))
	}
	if len(p.better) == 0 {
		out.WriteString("Nowhere, in this run.\n")
	}
	out.WriteString(p.text.String())
	if err := os.WriteFile(filepath.Join(p.dir, "RESULTS.md"), []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); len(f) > 0 {
		return f[0]
	}
	return "unknown"
}

var model = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if m := model.FindStringSubmatch(string(text)); m != nil {
		return m[1]
	}
	return runtime.GOARCH
}

func kernel() string {
	out, _ := exec.Command("uname", "-r").Output()
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), "-")
	return version
}

// layerOf makes a directory to lay over a machine's root, with these files of
// the host's at these paths.
func layerOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, host := range files {
		text, err := os.ReadFile(host)
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// toolLayer has the tool, and the app.
func toolLayer(t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "tool")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", tool, "./test/bench/tool")
	cmd.Dir = machine.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return layerOf(t, map[string]string{"/opt/bench/tool": tool, "/opt/bench/app.js": filepath.Join(machine.Root(), "test", "bench", "app.js")})
}
