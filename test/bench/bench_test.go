//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// page is RESULTS.md as it grows.
type page struct {
	t        *testing.T // of the part that is measured
	text     strings.Builder
	pictures map[string]*SVG // by the name of the file beside it
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

// picture shows an SVG.
func (p *page) picture(name, what string, s *SVG) {
	p.pictures[name] = s
	p.printf("\n![%s](%s)\n", what, name)
}

// deploys is how many of each a run measures.
func deploys() int {
	if n, err := strconv.Atoi(os.Getenv("DEPLOYS")); err == nil && n > 0 {
		return n
	}
	return 20
}

// TestBench measures everything and writes RESULTS.md, and the pictures beside
// it. One of its parts alone (-run TestBench/growth) only logs what it found.
func TestBench(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sudo make bench")
	}
	p := &page{pictures: map[string]*SVG{}}
	began, load, done := time.Now(), loadAverage(), 0
	parts := []struct {
		name    string
		measure func()
	}{{"peers", p.peers}, {"kept", p.kept}, {"generator", p.generator}, {"boot", p.boot}, {"many", p.many}, {"growth", p.growth}, {"servers", p.servers}}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			p.t = t
			from := p.text.Len()
			part.measure()
			t.Logf("%s", p.text.String()[from:])
			done++
		})
	}
	if t.Failed() {
		t.Fatal("no RESULTS.md from a run that failed")
	}
	if done < len(parts) {
		t.Skip("no RESULTS.md from a part of a run")
	}

	var out strings.Builder
	fmt.Fprintf(&out, `# Results

Made by `+"`sudo make bench`"+`. It measured everything below in one run on one machine, on %s. Run it on yours; no test asserts any of these figures.

- %s, %d CPUs, Linux %s; Debians with their own systemd in containers (Debian 12, unless another is named), Go %s, Node 22.
- The load average was %s at the beginning. The run took %.0f minutes. %d deploys each.
- Clients, apps and tools share the CPUs. An answer has come when the kernel has the last of it: not when a client gets a CPU to read it, nor when the server closes (unless it has closed by then). The time that a client waits until it has sent its request is counted.

`, began.UTC().Format(time.DateOnly), cpuModel(), runtime.NumCPU(), kernel(), strings.TrimPrefix(runtime.Version(), "go"), load, time.Since(began).Minutes(), deploys())
	out.WriteString("## Where others do better\n\n")
	for _, b := range p.better {
		fmt.Fprintf(&out, "- %s (app-rollout %s): %s.\n", b.what, b.ours, strings.Join(b.others, ", "))
	}
	if len(p.better) == 0 {
		out.WriteString("Nowhere, in this run.\n")
	}
	out.WriteString(p.text.String())
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(machine.Root(), "test", "bench", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range p.pictures {
		write(name, s.String())
	}
	write("RESULTS.md", out.String())
}

// servers shows what the story of the servers has measured, if that was in this
// run of make bench.
func (p *page) servers() {
	p.heading("Servers")
	path := filepath.Join(machine.Root(), "build", "servers.md")
	began, _ := strconv.ParseInt(os.Getenv("BENCH_STARTED"), 10, 64)
	about, err := os.Stat(path)
	if err != nil || began == 0 || about.ModTime().Unix() < began {
		p.printf("Not measured in this run.\n")
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.printf("%s\n", bytes.TrimSpace(text))
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
