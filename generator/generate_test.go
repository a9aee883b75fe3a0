package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/store"
)

// TestGolden compares whole trees: testdata/CASE holds etc/ and what else there
// is, testdata/CASE.golden what must come of it. Run with -update to write it.
func TestGolden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("left out: the golden trees are root's files")
	}
	cases, err := filepath.Glob("testdata/*/etc")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, etc := range cases {
		dir := filepath.Dir(etc)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			root := plant(t, dir)
			if filepath.Base(dir) != "late-var" {
				if err := os.MkdirAll(root+units.StateDir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			r := runGenerator(t, root)
			got := fmt.Sprintf("exit status %d\n%s%s", r.status, r.stderr, r.snapshot(t))
			golden := dir + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Error(difference(got, string(want)), "\n-update writes the golden files anew")
			}
		})
	}
}

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	rest := func(lines []string) string {
		return strings.Join(lines[min(i, len(lines)):min(i+3, len(lines))], "\n")
	}
	return fmt.Sprintf("line %d: got\n%s\nwant\n%s", i+1, rest(g), rest(w))
}

func TestArguments(t *testing.T) {
	root := fresh(t, "shop")
	for _, c := range []struct {
		args   []string
		env    string
		status int
		writes bool
	}{
		{nil, "", 2, false},
		{[]string{"OUT", "OUT"}, "", 2, false},
		{[]string{"OUT", "OUT", "OUT", "OUT"}, "", 2, false},
		{[]string{"OUT"}, "", 0, true},
		{[]string{"OUT", "/nonexistent/early", "/nonexistent/late"}, "SYSTEMD_IN_INITRD=0", 0, true},
		{[]string{"OUT"}, "SYSTEMD_SCOPE=user", 0, false},
		{[]string{"OUT"}, "SYSTEMD_IN_INITRD=1", 0, false},
	} {
		out := t.TempDir()
		cmd := command(root, out)
		cmd.Args = cmd.Args[:1]
		for _, a := range c.args {
			cmd.Args = append(cmd.Args, strings.Replace(a, "OUT", out, 1))
		}
		cmd.Env = append(cmd.Env, c.env)
		cmd.Run()
		entries, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		if status := cmd.ProcessState.ExitCode(); status != c.status || (len(entries) > 0) != c.writes {
			t.Errorf("%q %s: exit status %d, %d files", c.args, c.env, status, len(entries))
		}
	}
}

// Nothing to do: nothing said, nothing written.
func TestNoConfig(t *testing.T) {
	empty := fresh(t)
	for _, root := range []string{t.TempDir(), empty} {
		r := runGenerator(t, root)
		if r.status != 0 || r.stderr != "" || r.snapshot(t) != "" {
			t.Errorf("%+v\n%s", r, r.snapshot(t))
		}
	}
}

// hostile are files that cost their own app and nothing else.
func hostile(t *testing.T, root string) {
	etc := root + units.EtcDir
	bomb := "SYSTEMD_EXEC_START=/usr/bin/app\nA0=xxxxxxxxxx\n"
	for i := range 8 {
		bomb += fmt.Sprintf("A%d=%s\n", i+1, strings.Repeat(fmt.Sprintf("$A%d-", i), 10))
	}
	for i := range 5 {
		write(t, root, fmt.Sprintf("%s/aa-bomb%d.env", units.EtcDir, i), bomb)
		write(t, root, fmt.Sprintf("%s/aa-quadratic%d.env", units.EtcDir, i), strings.Repeat("export_1=x\n", 5900))
	}
	write(t, root, units.EtcDir+"/aa-comments.env", strings.Repeat("#\n", 10<<20))
	write(t, root, units.EtcDir+"/aa-dollars.env", "A=x\nB="+strings.Repeat("$A", 30000))
	write(t, root, units.EtcDir+"/aa-nul.env", good+"X=\x00\n")
	write(t, root, units.EtcDir+"/aa-latin1.env", good+"X=\xe9\n")
	write(t, root, units.EtcDir+"/aa-quote.env", good+"X='"+canary+"\n")
	write(t, root, units.EtcDir+"/aa-unknown.env", good+"SYSTEMD_X="+canary+"\n")
	write(t, root, units.EtcDir+"/aa-sparse.env", "")
	err := errors.Join(
		os.Truncate(etc+"/aa-sparse.env", 1<<30),
		unix.Mkfifo(etc+"/aa-fifo.env", 0o644),
		os.Mkdir(etc+"/aa-directory.env", 0o755),
		os.Symlink("/gone", etc+"/aa-dangling.env"),
		os.Symlink("aa-loop.env", etc+"/aa-loop.env"),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever lies beside it, an app's output is the same, byte for byte, and the
// whole ends in time.
func TestHostileNeighbours(t *testing.T) {
	root := fresh(t, "shop", "zoo")
	want := runGenerator(t, root).snapshot(t)
	hostile(t, root)
	began := time.Now()
	r := runGenerator(t, root)
	took := time.Since(began)
	// On a machine with other things to do it may have to give up: then the
	// good apps are there all the same, and it ends at the limit. What it costs
	// in CPU time says how long it takes where there is none.
	gaveUp := strings.Contains(r.stderr, "gave up")
	if took > usual.recorded+2*usual.fresh {
		t.Errorf("took %s", took)
	}
	if r.cpu > 2*usual.fresh {
		t.Errorf("used %s", r.cpu)
	}
	if r.status != 1 {
		t.Errorf("exit status %d", r.status)
	}
	if got := r.snapshot(t); got != want {
		t.Error(difference(got, want), "\nand was told\n", r.stderr)
	}
	if strings.Contains(r.stderr, canary) {
		t.Errorf("a value stands in\n%s", r.stderr)
	}
	for _, name := range []string{"bomb0", "quadratic0", "comments", "nul", "latin1", "quote", "unknown", "sparse", "fifo", "directory", "dangling", "loop"} {
		costly := name == "bomb0" || name == "quadratic0"
		if !strings.Contains(r.stderr, "aa-"+name+".env") && !(gaveUp && costly) {
			t.Errorf("nothing is said of %s", name)
		}
	}
	t.Logf("took %s, used %s\n%s", took, r.cpu, r.stderr)
}

// No secret can be read by others, in what is written or said.
func TestCanary(t *testing.T) {
	r := runGenerator(t, fresh(t, "shop"))
	found := 0
	filepath.WalkDir(r.out, func(path string, d fs.DirEntry, err error) error {
		text, _ := os.ReadFile(path)
		if strings.Contains(string(text), canary) {
			found++
			dir, err1 := os.Stat(filepath.Dir(path))
			file, err2 := os.Stat(path)
			if errors.Join(err1, err2) != nil || file.Mode().Perm() != 0o600 || dir.Mode().Perm() != 0o700 {
				t.Errorf("%s can be read", path)
			}
		}
		return err
	})
	if found != 2 || strings.Contains(r.stderr, canary) {
		t.Errorf("found in %d files; %s", found, r.stderr)
	}
}

// Modes are what they must be, whatever PID 1's umask; two runs, one over the
// other, leave the same.
func TestUmaskAndTwoRuns(t *testing.T) {
	root := fresh(t, "shop", "zoo")
	first := runGenerator(t, root)
	want := first.snapshot(t)
	for _, umask := range []int{0, 0o077, 0o777} {
		old := syscall.Umask(umask)
		r := runGeneratorIn(t, root, first.out)
		syscall.Umask(old)
		if got := r.snapshot(t); got != want || r.status != 0 {
			t.Errorf("umask %04o: status %d, %s", umask, r.status, difference(got, want))
		}
	}
}

// The page tells the limits.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../packaging/man/app-rollout-generator.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []time.Duration{usual.recorded, usual.fresh} {
		if want := fmt.Sprintf("%g seconds", limit.Seconds()); !strings.Contains(string(text), want) {
			t.Errorf("the page does not tell of %s", want)
		}
	}
}

// record makes the app's first generation the current one.
func record(t testing.TB, l units.Layout, app string) {
	t.Helper()
	spec, err := l.Check(&units.Source{App: app, Path: units.EnvPath(app), Text: []byte(good)})
	if err != nil {
		t.Fatal(err)
	}
	g, err := store.Of(l, app).Freeze(spec, time.Unix(0, 0))
	if err == nil {
		err = store.Of(l, app).Commit(g)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An app that was rolled out is emitted as it was frozen, whatever has become
// of its .env; with the instances that live, if there are any.
func TestRecorded(t *testing.T) {
	live := func(t *testing.T, root string) {
		l := units.Layout{Root: root}
		if err := os.MkdirAll(l.Run("shop"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := store.Of(l, "shop").SaveInstances(store.Instances{Next: 7, Generations: map[int][]int{1: {5, 6}}}); err != nil {
			t.Fatal(err)
		}
	}
	env := units.EtcDir + "/shop.env"
	for _, c := range []struct {
		name  string
		do    func(t *testing.T, root string)
		wants string
		said  string
	}{
		{"at boot", func(t *testing.T, root string) {}, "shop@1.service shop@2.service", ""},
		{"at a reload", live, "shop@5.service shop@6.service", ""},
		{"at a reload, one started by a rollout, and one that was and has ended", func(t *testing.T, root string) {
			live(t, root)
			write(t, root, "run/systemd/system/shop@5.service", units.Header)
			write(t, root, "run/systemd/system/shop@6.service", units.Header)
			write(t, root, "run/systemd/units/invocation:shop@5.service", "")
		}, "shop@6.service", ""},
		{"a bad edit", func(t *testing.T, root string) { write(t, root, env, "rubbish") }, "shop@1.service shop@2.service", ""},
		{"dangling", func(t *testing.T, root string) {
			os.Remove(root + env)
			if err := os.Symlink("/gone", root+env); err != nil {
				t.Fatal(err)
			}
		}, "shop@1.service shop@2.service", ""},
		{"gone at boot", func(t *testing.T, root string) { os.Remove(root + env) }, "", ""},
		{"gone at a reload", func(t *testing.T, root string) { os.Remove(root + env); live(t, root) }, "shop@5.service shop@6.service", ""},
		{"nobody can say what is asked for", func(t *testing.T, root string) {
			if err := errors.Join(os.RemoveAll(root+units.EtcDir), unix.Mkfifo(root+units.EtcDir, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "shop@1.service shop@2.service", "app-rollout-generator: /etc/app-rollout: is not a directory; move it away and create one\n"},
		{"shadowed since", func(t *testing.T, root string) { write(t, root, "usr/lib/systemd/system/shop@.service", "") }, "",
			"app-rollout-generator: /etc/app-rollout/shop.env: the app would have the name of a unit that is installed as /usr/lib/systemd/system/shop@.service; rename the file\n"},
		{"damaged", func(t *testing.T, root string) {
			write(t, root, units.GenerationDir("shop", 1)+"/generation.json", "{")
		}, "", "app-rollout-generator: /var/lib/app-rollout/shop/generations/1/generation.json: is damaged; move its directory away to let the app be rolled out anew\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := fresh(t, "shop")
			record(t, units.Layout{Root: root}, "shop")
			c.do(t, root)
			r := runGenerator(t, root)
			links, _ := filepath.Glob(r.out + "/" + wants + "/*")
			for i := range links {
				links[i] = filepath.Base(links[i])
			}
			if got := strings.Join(links, " "); got != c.wants {
				t.Errorf("wants are %q, not %q", got, c.wants)
			}
			if r.stderr != c.said || (r.status != 0) != (c.said != "") {
				t.Errorf("status %d, said %q", r.status, r.stderr)
			}
			if _, err := os.Stat(r.out + "/shop@.service"); (err == nil) != (c.wants != "") {
				t.Error("the unit:", err)
			}
			if _, err := os.Stat(r.out + "/shop.generation"); err == nil {
				t.Error("it was frozen anew")
			}
		})
	}
}

// An app that was never ready has a unit, for people, and nothing starts it: neither
// after a failed rollout nor while the numbers of one that was cut off are known.
func TestNeverReady(t *testing.T) {
	root := fresh(t, "shop", "zoo")
	l := units.Layout{Root: root}
	spec, err := l.Read("shop")
	if err != nil {
		t.Fatal(err)
	}
	g, err := store.Of(l, "shop").Freeze(spec, time.Unix(0, 0))
	if err == nil {
		err = store.Of(l, "shop").Reject(g)
	}
	if err == nil {
		err = os.MkdirAll(l.Run("shop"), 0o700)
	}
	if err == nil {
		err = store.Of(l, "shop").SaveInstances(store.Instances{Next: 3, Generations: map[int][]int{1: {1, 2}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	r := runGenerator(t, root)
	if links, _ := filepath.Glob(r.out + "/*.wants/*"); len(links) > 0 || r.status != 0 {
		t.Errorf("status %d, wants are %q", r.status, links)
	}
	for _, app := range []string{"shop", "zoo"} {
		if _, err := os.Stat(r.out + "/" + app + "@.service"); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkApps measures whole runs: of apps that were never rolled out, the
// slowest kind, and of apps that were.
func BenchmarkApps(b *testing.B) {
	for _, n := range []int{100, 1000} {
		var apps []string
		for i := range n {
			apps = append(apps, fmt.Sprintf("app%d", i))
		}
		root := fresh(b, apps...)
		b.Run(fmt.Sprintf("fresh/%d", n), func(b *testing.B) { benchmark(b, root) })
		l := units.Layout{Root: root}
		for _, app := range apps {
			record(b, l, app)
		}
		b.Run(fmt.Sprintf("recorded/%d", n), func(b *testing.B) { benchmark(b, root) })
	}
}

// benchmark writes where PID 1 has it written: to memory, and each time anew.
func benchmark(b *testing.B, root string) {
	for b.Loop() {
		b.StopTimer()
		out, err := os.MkdirTemp("/dev/shm", "generator")
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		r := runGeneratorIn(b, root, out)
		b.StopTimer()
		if err := os.RemoveAll(out); err != nil || r.status != 0 {
			b.Fatal(err, r.stderr)
		}
		b.StartTimer()
	}
}
