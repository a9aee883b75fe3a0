//go:build bench

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
	"app-rollout/test/servers"
	"app-rollout/units/store"
)

// address is where users ask, whoever serves.
const address = "127.0.0.1:8080"

// bed is the machine that all ways to deploy are measured on, one after another.
type bed struct {
	*machine.Machine
	t     *testing.T
	kamal bool // kamal-proxy is there
}

func newBed(t *testing.T) *bed {
	layers := []string{toolLayer(t), machine.Node(t), pm2Layer(t), machine.Apps(t)}
	b := &bed{t: t}
	if proxy := kamalProxy(); proxy != "" {
		layers = append(layers, layerOf(t, map[string]string{"/usr/local/bin/kamal-proxy": proxy}))
		b.kamal = true
	}
	b.Machine = machine.Boot(t, machine.Options{Install: true, Packages: servers.Packages(), Layers: layers, Files: unitFiles})
	return b
}

// kamalProxy is the program, "" if there is none: it is neither in Debian nor
// in npm.
func kamalProxy() string {
	if path := os.Getenv("KAMAL_PROXY"); path != "" {
		return path
	}
	path, _ := exec.LookPath("kamal-proxy")
	return path
}

// pm2Layer has PM2 from npm, in /opt/pm2.
func pm2Layer(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(machine.Root(), "build", "npm", "pm2")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	t.Log("fetching pm2 from npm (once)")
	temp, err := os.MkdirTemp(filepath.Dir(dir), "pm2.tmp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	prefix := filepath.Join(temp, "opt", "pm2")
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", prefix, "pm2@7")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm install pm2: %v\n%s", err, out)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script runs a shell script that may fail.
func (b *bed) script(text string) machine.Result {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	return b.Run(ctx, "sh", "-euc", text)
}

// answered waits until somebody answers at the address, with an answer that
// begins so.
func (b *bed) answered(generation string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range 300 {
		if r := b.Run(ctx, "python3", "-c", "import urllib.request as u; print(u.urlopen('http://"+address+"/', timeout=2).read().decode())"); strings.HasPrefix(r.Out, generation) {
			return
		}
	}
	b.t.Fatalf("nobody answers as %q at %s", generation, address)
}

// cpu is the CPU time that the machine has used: apps and tools, not clients.
func (b *bed) cpu() time.Duration {
	b.t.Helper()
	text := b.Sh("sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.t.Fatalf("cpu.stat: %v", err)
	}
	return time.Duration(n) * time.Microsecond
}

// resident is the memory that the processes of these command lines have, each
// shared page divided by its sharers, and how many there are.
func (b *bed) resident(pattern string) (mib float64, processes int) {
	b.t.Helper()
	if pattern == "" {
		return 0, 0
	}
	out := b.Sh("for p in $(pgrep -f '" + pattern + "'); do sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' /proc/$p/smaps_rollup 2>/dev/null || true; done")
	for _, f := range strings.Fields(out) {
		kib, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.t.Fatalf("smaps_rollup: %v", err)
		}
		mib += kib / 1024
		processes++
	}
	return mib, processes
}

// generation is what we have recorded of the current generation.
func (b *bed) generation(app string) store.Generation {
	b.t.Helper()
	var g store.Generation
	if err := json.Unmarshal([]byte(b.Read("/var/lib/app-rollout/"+app+"/current/generation.json")), &g); err != nil {
		b.t.Fatal(err)
	}
	return g
}

// clients are up to four kinds at once: some that come on a fresh connection
// each time, some that keep theirs and GET or POST, and some whose answers take their
// time. All but the last pause, so that the CPUs are not full and latencies mean something.
type clients struct {
	fresh, kept, posting, slow *machine.Load
}

const (
	freshClients = 16
	keptClients  = 4 // that GET, and as many that POST
	postBytes    = 1000
	pause        = 5 * time.Millisecond
)

func (b *bed) clients(app *behaviour) clients {
	b.t.Helper()
	c := b.freshOnly()
	if app.slow {
		c.slow = b.Load(load.Options{Addr: address, Workers: slowClients, Path: fmt.Sprintf("/?delay=%ds", slowAnswer), Timeline: true})
	} else {
		c.kept = b.Load(load.Options{Addr: address, Workers: keptClients, Pause: pause, Timeline: true, Keep: true})
		c.posting = b.Load(load.Options{Addr: address, Workers: keptClients, Pause: pause, Timeline: true, Keep: true, Post: postBytes})
	}
	return c
}

// freshOnly are the clients of the pictures.
func (b *bed) freshOnly() clients {
	b.t.Helper()
	return clients{fresh: b.Load(load.Options{Addr: address, Workers: freshClients, Pause: pause, Timeline: true})}
}

func (c clients) stop() (fresh, kept, posting, slow *load.Report) {
	report := func(l *machine.Load) *load.Report {
		if l == nil {
			return load.Of(nil)
		}
		return l.Stop()
	}
	return report(c.fresh), report(c.kept), report(c.posting), report(c.slow)
}

// kinds names what was lost, most often first the plain ones.
func kinds(r *load.Report) string {
	var parts bytes.Buffer
	for _, k := range []load.Kind{load.Refused, load.Reset, load.EOF, load.Timeout, load.Wrong, load.Local} {
		if n := r.Kinds[k]; n > 0 {
			if parts.Len() > 0 {
				parts.WriteString(", ")
			}
			fmt.Fprintf(&parts, "%d %s", n, k)
		}
	}
	return parts.String()
}

// lost is how many were lost of 100,000.
func lost(r *load.Report) float64 {
	return 1e5 * float64(r.Lost()) / float64(max(r.Lost()+r.Answered(), 1))
}
