package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/test/load"
)

const address = "127.0.0.1:8080"

// shop is the .env of the app that is rolled out: a server that knows nothing
// of SO_REUSEPORT, in two instances. Later lines win.
func (g *guest) shop(generation string, lines ...string) {
	g.write("/etc/app-rollout/shop.env", strings.Join(append([]string{
		"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_CLUSTER_NODES=2", "SYSTEMD_CLUSTER_WATCH_SEC=1",
		"SYSTEMD_EXEC_START=/opt/apps/server", "SYSTEMD_MEMORY_MAX=64M", "SYSTEMD_RESTART_SEC=1s",
		"PORT=8080", "LISTEN=0.0.0.0:PORT", "GENERATION=" + generation}, lines...), "\n")+"\n")
}

// firstLife goes from a bare Debian to the middle of a rollout, where the power
// is cut.
func (g *guest) firstLife() {
	g.sh("install -D -t /opt/apps /mnt/test/server")
	g.sh("dpkg --install /mnt/test/app-rollout.deb")
	g.say("installed")
	g.equal("app-rollout-boot.service", g.try("systemctl is-enabled app-rollout-boot.service").out, "enabled")

	g.shop("g1")
	g.sh("systemctl start app-rollout.service")
	g.runs("shop", "shop@1 shop@2")
	g.shared()
	g.bpf()
	// As if another version of the package had pinned the programs.
	g.sh("rm /run/app-rollout-bpf/build")
	g.equal("the build before a rollout", g.status().Build, "older")
	g.rollouts()
	g.equal("the build after a rollout", g.status().Build, "current")
	g.failedRollout()
	g.killedWhileServing()
	g.cpuQuota()

	// An app that the next boot meets for the first time.
	g.write("/etc/app-rollout/fresh.env", "SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=3\nSYSTEMD_EXEC_START=/opt/apps/server\nPORT=8090\nGENERATION=fresh\n")
	g.shop("g5", "SYSTEMD_CLUSTER_WATCH_SEC=5")
	g.cut("1", "systemctl start --no-block app-rollout@shop.service", "an answer from the candidate", func() bool { return generation() == "g5" })
}

// machineStatus is what status says of the machine.
type machineStatus struct {
	PortSharing string `json:"port_sharing"`
	Build       string `json:"port_sharing_build"`
	Why         string `json:"port_sharing_reason"`
	Migrates    bool
}

func (g *guest) status() machineStatus {
	var report struct{ Machine machineStatus }
	if err := json.Unmarshal([]byte(g.sh("app-rollout status --json")), &report); err != nil {
		g.must("status --json: %v", err)
	}
	return report.Machine
}

// bpfTests are the tests of packages that load BPF programs or go by what the kernel
// tells of a connection, by the package. In software emulation the others take too
// long.
var bpfTests = map[string][]string{
	"ports": {"TestPin", "TestRenew", "TestRenewWhileBinding", "TestPinNeedsBPFFS", "TestNames", "TestShare", "TestPortZero", "TestKinds",
		"TestMultipathTCP", "TestSetMigrate"},
	"steering": {"TestAskedIsGone", "TestRestart", "TestNoServerLeft", "TestRecover", "TestMigrate", "TestSlotsAreUsedAgain",
		"TestArrayOfVersion010", "TestPolicy"},
	"traffic": {"TestAccepts", "TestResets", "TestBusyAccepts"},
	"balance": {"TestFew", "TestComesBack", "TestExactUnheard", "TestForgotten", "TestSteered", "TestEnd"},
	"closing": {"TestAnswers", "TestConversations", "TestTakenOff", "TestNewInterfaces", "TestMultipath", "TestSigned"},
}

// bpf runs these tests on this kernel. They load their programs with the rights that
// the services have, and no more. A test that is gone, or skips itself, fails.
func (g *guest) bpf() {
	for name, tests := range bpfTests {
		r := g.try("cd /tmp; /mnt/test/" + name + ".test -test.v -test.run '^(" + strings.Join(tests, "|") + ")$'")
		if r.code != 0 {
			g.fail("%s: %s", name, r.out)
			continue
		}
		for _, test := range tests {
			if !strings.Contains("\n"+r.out, "\n--- PASS: "+test+" ") {
				g.fail("%s: %s did not pass: it is gone, or was skipped", name, test)
			}
		}
		g.say("%d tests of %s, in %.1f s", len(tests), name, r.took.Seconds())
	}
}

// shared checks that two instances of a server that does not ask for SO_REUSEPORT
// listen on one port, and that both get connections.
func (g *guest) shared() {
	if m := g.status(); m.PortSharing != "on" || m.Build != "current" || !m.Migrates {
		g.fail("status: %+v", m)
	}
	g.equal("listeners on the port", g.sh("ss -Hltn 'sport = :8080' | wc -l"), "2")
	seen := map[string]bool{}
	g.wait("an answer from each instance", time.Minute, func() bool {
		if f := strings.Fields(answer(address)); len(f) > 1 {
			seen[f[1]] = true
		}
		return seen["1"] && seen["2"]
	})
	g.say("two instances share the port")
}

// rollouts rolls out three times under load, and of clients that keep their connections.
// What it starts dies of its stop signal. While the second one is watched, the clock is
// set back, so that the third is earlier than those before it.
func (g *guest) rollouts() {
	stopLoad, endPaths := g.load(), g.paths()
	told, untold := 0, 0
	for i := range 3 {
		candidate, watch := fmt.Sprintf("g%d", i+2), "SYSTEMD_CLUSTER_WATCH_SEC=1"
		if i == 1 {
			watch = "SYSTEMD_CLUSTER_WATCH_SEC=3"
		}
		g.shop(candidate, watch, "STOP=die")
		ended := make(chan result, 1)
		go func() { ended <- g.try("app-rollout run shop") }()
		if i == 1 {
			g.wait("an answer from the candidate", time.Minute, func() bool { return generation() == candidate })
			g.setBack(time.Hour)
			g.equal("the current generation, while the next one is watched", g.sh("readlink /var/lib/app-rollout/shop/current"), "generations/2")
		}
		r := <-ended
		if r.code != 0 {
			g.must("rollout %d: status %d: %s", i+1, r.code, r.out)
		}
		g.runs("shop", fmt.Sprintf("shop@%d shop@%d", 2*i+3, 2*i+4))
		rollout := g.record("shop")
		g.equal("traffic", rollout.Traffic, "steered")
		g.equal("reason for no better", rollout.Reason, "")
		// With an emulated CPU clients may rest too long between two requests, or the kernel
		// may take too long to take the programs.
		told, untold = told+rollout.Told, untold+rollout.Closed
		if rollout.Cut > 0 || rollout.Told+rollout.Closed < 2 {
			g.fail("%d connections cut, %d told to close, %d closed", rollout.Cut, rollout.Told, rollout.Closed)
		}
		if rollout.Told == 0 {
			g.say("nobody was told to close: %s", r.out)
		}
		g.say("rollout %d: %.1f s, traffic %s, %d drained, %d cut; ms:%s", i+1, r.took.Seconds(), rollout.Traffic, rollout.Drained, rollout.Cut, rollout.steps())
	}
	g.nothingLost("three rollouts", stopLoad())
	endPaths(untold)
	if told == 0 {
		g.fail("no client was told to close")
	}
	g.equal("history", g.sh("app-rollout history shop | grep -o '^[0-9]*' | xargs"), "1 2 3 4")
	g.equal("the current generation", g.sh("app-rollout history shop | grep current | cut -d' ' -f1"), "4")
}

// setBack sets the clock back.
func (g *guest) setBack(by time.Duration) {
	then := unix.NsecToTimeval(time.Now().Add(-by).UnixNano())
	if err := unix.Settimeofday(&then); err != nil {
		g.must("settimeofday: %v", err)
	}
}

// failedRollout checks that a generation that takes more memory than its limit fails
// and changes nothing.
func (g *guest) failedRollout() {
	before := g.pids("shop@7 shop@8")
	stopLoad := g.load()
	// systemd knows how it ended until it is started again.
	g.shop("bad", "MEMORY=200", "SYSTEMD_RESTART_SEC=1min")
	r := g.try("app-rollout run shop")
	if r.code != 1 || !strings.Contains(r.out, "was killed for want of memory") {
		g.fail("a rollout over its MemoryMax=: status %d: %s", r.code, r.out)
	}
	g.nothingLost("a failed rollout, killed under MemoryMax=", stopLoad())
	g.runs("shop", "shop@7 shop@8")
	g.equal("pids", g.pids("shop@7 shop@8"), before)
	g.equal("answers", generation(), "g4")
}

// killedWhileServing checks what happens when an instance that serves takes more
// memory than its limit. It dies with what it has in hand. The other instance answers
// until it is back, and is not touched.
func (g *guest) killedWhileServing() {
	before := strings.Fields(g.pids("shop@7 shop@8"))
	began := time.Now()
	if got := get("http://" + address + "/use?200"); got != "" {
		g.must("an answer of an instance that was to be killed: %s", got)
	}
	answered := 0
	var now []string
	g.wait("an answer from the instance that was killed", time.Minute, func() bool {
		line := answer(address)
		f := strings.Fields(line)
		if len(f) != 3 {
			g.must("while one instance is down: answer %q", line)
		}
		answered++
		now = slices.Clone(before)
		now[map[string]int{"7": 0, "8": 1}[f[1]]] = f[2]
		return !slices.Equal(now, before)
	})
	g.equal("pids", g.pids("shop@7 shop@8"), strings.Join(now, " "))
	g.equal("how often they were started again", g.sh("systemctl show --value --property=NRestarts shop@7 shop@8 | sort | xargs"), "0 1")
	g.say("killed under MemoryMax= while it serves: serves again after %.1f s, %d answered by the other one meanwhile", time.Since(began).Seconds(), answered-1)
}

// cpuQuota checks that a shell that only burns CPU gets its fifth of one CPU.
func (g *guest) cpuQuota() {
	g.write("/etc/app-rollout/burn.env", `SYSTEMD_EXEC_START="/bin/sh -c 'while :; do :; done'"`+"\nSYSTEMD_MEMORY_MAX=64M\nSYSTEMD_CPU_QUOTA=20%\nSYSTEMD_CLUSTER_WATCH_SEC=0\n")
	g.sh("app-rollout run burn")
	cgroup := "/sys/fs/cgroup" + g.property("burn.service", "ControlGroup")
	g.equal("memory.max", g.read(cgroup+"/memory.max"), strconv.Itoa(64<<20))
	g.equal("cpu.max", g.read(cgroup+"/cpu.max"), "20000 100000")
	used, began := g.cpu(cgroup), time.Now()
	time.Sleep(2 * time.Second)
	share := float64(g.cpu(cgroup)-used) / float64(time.Since(began))
	if share > 0.3 {
		g.fail("CPUQuota=20%%: it used %.0f %% of a CPU", 100*share)
	}
	g.say("%.0f %% of a CPU under CPUQuota=20%%", 100*share)
	g.sh("rm /etc/app-rollout/burn.env; systemctl start app-rollout@burn.service")
	g.runs("burn", "")
}

// cpu is the CPU time that a cgroup has used.
func (g *guest) cpu(cgroup string) time.Duration {
	first, _, _ := strings.Cut(g.read(cgroup+"/cpu.stat"), "\n")
	n, err := strconv.ParseInt(strings.TrimPrefix(first, "usage_usec "), 10, 64)
	if err != nil {
		g.must("cpu.stat: %v", err)
	}
	return time.Duration(n) * time.Microsecond
}

// secondLife is the boot after the power cut before the commit, and goes to one
// after the commit.
func (g *guest) secondLife() {
	// The committed generation first, whatever the .env asks for.
	g.boots("g4")

	// Then what the .env asks for, with nothing lost.
	stopLoad := g.load()
	g.converges()
	g.nothingLost("the rollout at boot", stopLoad())
	g.equal("answers", generation(), "g5")
	g.runs("shop", "shop@3 shop@4")
	g.equal("traffic", g.record("shop").Traffic, "steered")
	g.runs("fresh", "fresh@1 fresh@2 fresh@3")
	if answer("127.0.0.1:8090") == "" {
		g.fail("the app that the boot met first does not answer")
	}
	if _, err := os.Stat("/var/lib/app-rollout/fresh/current/generation.json"); err != nil {
		g.fail("the app that the boot met first is not recorded: %v", err)
	}

	// A request that the old generation has in hand keeps the rollout from its end.
	conn, err := net.Dial("tcp", address)
	if err != nil {
		g.must("%v", err)
	}
	if _, err := io.WriteString(conn, "GET /?delay=10m HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
		g.must("%v", err)
	}
	g.shop("g6")
	g.cut("2", "systemctl start --no-block app-rollout@shop.service", "the old generation waited for", func() bool {
		return strings.Contains(g.property("app-rollout@shop.service", "StatusText"), "waiting for ")
	})
}

// thirdLife is the boot after the power cut after the commit: there is nothing
// left to do.
func (g *guest) thirdLife() {
	g.boots("g6")
	g.converges()
	g.equal("answers", generation(), "g6")
	g.runs("shop", "shop@1 shop@2")
	g.runs("fresh", "fresh@1 fresh@2 fresh@3")
	g.kernelLog()
}

// boots checks that the committed generation is the first to answer after the boot.
func (g *guest) boots(committed string) {
	first := ""
	g.wait("an answer after the boot", time.Minute, func() bool { first = generation(); return first != "" })
	g.equal("the first to answer after the power cut", first, committed)
	g.say("the committed generation answers %s s after the kernel began", g.sh("cut -d' ' -f1 /proc/uptime"))
}

// converges waits until the boot has done all that it has to do.
func (g *guest) converges() {
	g.wait("app-rollout-boot.service", 2*time.Minute, func() bool {
		state := g.property("app-rollout-boot.service", "SubState")
		return state == "exited" || state == "failed"
	})
	g.equal("failed units", g.sh("systemctl list-units --plain --no-legend --state=failed"), "")
}

type record struct {
	Traffic string `json:"traffic"`
	Reason  string `json:"traffic_reason"`
	Drained int    `json:"drained"`
	Told    int    `json:"told"`
	Closed  int    `json:"closed"`
	Cut     int    `json:"cut"`
	Steps   []struct {
		Name         string  `json:"step"`
		Milliseconds float64 `json:"ms"`
	}
}

// steps says how long each step took.
func (r record) steps() string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, " %s %.0f", s.Name, s.Milliseconds)
	}
	return b.String()
}

// record is the receipt of the current generation's rollout.
func (g *guest) record(app string) record {
	text, err := os.ReadFile(filepath.Join("/var/lib/app-rollout", app, "current/generation.json"))
	if err != nil {
		g.must("%v", err)
	}
	var frozen struct{ Rollout record }
	if err := json.Unmarshal(text, &frozen); err != nil {
		g.must("generation.json: %v", err)
	}
	return frozen.Rollout
}

// pids are the process ids of these instances.
func (g *guest) pids(instances string) string {
	return g.sh("systemctl show --value --property=MainPID " + instances + " | xargs")
}

// runs fails unless exactly these instances run.
func (g *guest) runs(app, want string) {
	got := g.sh("systemctl list-units --plain --no-legend --state=active,activating,deactivating '" + app + "@*.service' '" + app + ".service' | cut -d' ' -f1 | sed s/.service//")
	g.equal("what runs of "+app, strings.Join(strings.Fields(got), " "), want)
}

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// answer is what an app answers, "" if it does not.
func answer(address string) string { return get("http://" + address + "/") }

// get is the first line of one answer, "" if there is none.
func get(url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return line
}

// generation is the first word of an answer.
func generation() string {
	word, _, _ := strings.Cut(answer(address), " ")
	return word
}

// load asks the app over and over, until the function that it returns is called.
func (g *guest) load() (stop func() *load.Report) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan *load.Report)
	// The CPU is emulated and slow, so a few clients are a load.
	go func() {
		done <- load.Run(ctx, load.Options{Addr: address, Workers: 3, Pause: 100 * time.Millisecond}, nil)
	}()
	return func() *load.Report {
		cancel()
		return <-done
	}
}

func (g *guest) nothingLost(what string, report *load.Report) {
	if report.Lost() > 0 || report.Answered() == 0 {
		g.fail("%s: %v: %v", what, report, report.Failures)
		return
	}
	g.say("%s: %v", what, report)
}
