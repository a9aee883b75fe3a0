//go:build story

package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/status"
	"app-rollout/test/machine"
	"app-rollout/units"
)

// A foreign is a file in the name of an app's unit that app-rollout has not written. The
// app has that file's name, and its generation 2 is the current one.
type foreign struct {
	app    string
	do     string // makes the file; by is for this
	says   string // what is said of it
	mend   string // the command that is named for it after a boot
	lines  string // of the .env
	boots  string // the instances that the boot starts
	stays  string // a file that is still there when that command was typed
	answer string // what clients get after a boot, "g2" if it is empty
}

// foreigners are all of them. A new one is a line here.
var foreigners = []foreign{
	{app: "full", do: "edit --full full@.service",
		says: "/etc/systemd/system/full@.service: is a copy of a unit that app-rollout generates", mend: "systemctl revert full@.service"},
	{app: "nowhere", do: "sed 's,=/var/lib/app-rollout/nowhere/generations/2/,=/run/systemd/generator/nowhere.generation/,' /run/systemd/generator/nowhere@.service >/etc/systemd/system/nowhere@.service",
		says: "/etc/systemd/system/nowhere@.service: is a copy of", mend: "systemctl revert nowhere@.service"},
	{app: "dropin", do: `mkdir /etc/systemd/system/dropin@.service.d; printf '[Service]\nNice=5\n' >/etc/systemd/system/dropin@.service.d/nice.conf; edit --full dropin@.service`,
		says: "/etc/systemd/system/dropin@.service: is a copy of", mend: "rm /etc/systemd/system/dropin@.service && systemctl daemon-reload", stays: "/etc/systemd/system/dropin@.service.d/nice.conf"},
	{app: "one", do: "edit --full one@1.service",
		says: "/etc/systemd/system/one@1.service: is a copy of", mend: "rm /etc/systemd/system/one@1.service && systemctl daemon-reload"},
	{app: "local", do: "mkdir -p /usr/local/lib/systemd/system; sed s,/generations/2/,/generations/1/, /run/systemd/generator/local@.service >/usr/local/lib/systemd/system/local@.service",
		says: "/usr/local/lib/systemd/system/local@.service: is a copy of", mend: "rm /usr/local/lib/systemd/system/local@.service && systemctl daemon-reload"},
	{app: "solo", lines: "SYSTEMD_CLUSTER_MODE=0", do: "edit --full solo.service", boots: "solo",
		says: "/etc/systemd/system/solo.service: is a copy of", mend: "systemctl revert solo.service"},
	{app: "link", do: "ln -s /run/systemd/generator/link@.service /etc/systemd/system/",
		says: "/etc/systemd/system/link@.service: has the name of a unit of the app, but is a link", mend: "rm /etc/systemd/system/link@.service && systemctl daemon-reload"},
	{app: "own", do: `printf '[Service]\nExecStart=sleep 1000\n' >/etc/systemd/system/own@.service`,
		says: "/etc/systemd/system/own@.service: has the name of a unit of the app, but app-rollout has not", mend: "mv /etc/systemd/system/own@.service /etc/systemd/system/own@.service.off && systemctl daemon-reload", stays: "/etc/systemd/system/own@.service.off"},
	{app: "mask", do: "systemctl mask mask@.service", boots: "none", answer: "none",
		says: "/etc/systemd/system/mask@.service: masks mask@.service", mend: "systemctl unmask mask@.service"},
	{app: "half", do: "systemctl mask half@1.service", boots: "half@2",
		says: "/etc/systemd/system/half@1.service: masks half@1.service", mend: "systemctl unmask half@1.service"},
}

// by edits a unit as a person does at a terminal, who makes it name generation 1.
const by = `edit() { script --quiet --return --command "SYSTEMD_EDITOR=/root/older systemctl edit $*" /dev/null; }; `

const older = `#!/bin/sh
for file; do [ ! -f "$file" ] || sed -i s,/generations/2/,/generations/1/, "$file"; done
`

// TestForeignUnits: check, status and run name a file that stands in the way of an app's
// units, and a command that mends it. The boot serves what is recorded, and names both too.
func TestForeignUnits(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		p := newPerson(t, on)
		p.Write("/root/older", older, 0o755)
		for _, generation := range []string{"g1", "g2"} {
			for at, f := range foreigners {
				p.other(t, f.app).write("GENERATION="+generation, "PORT="+strconv.Itoa(8100+at), "SYSTEMD_CLUSTER_WATCH_SEC=0", "SYSTEMD_RESTART_SEC=100ms", f.lines)
			}
			p.types("app-rollout run", 0)
		}
		p.Must("systemctl", "daemon-reload")
		p.processes("own")
		for _, f := range foreigners {
			p.types(by+f.do, 0)
		}
		p.Must("systemctl", "daemon-reload")
		p.foreignTold()

		p.Reboot()
		p.boot("failed")
		// An app has so long to become ready. Nobody waits for one that cannot be started.
		if took, ready := p.bootTook(), units.DefaultPlan().ReadySec; took >= time.Duration(ready)*time.Second {
			t.Errorf("the boot service took %v", took)
		}
		p.foreignBooted()
		for _, f := range foreigners {
			p.reads(p.types("app-rollout check "+f.app, 1), f.says, "; "+f.mend)
			p.types(f.mend, 0)
			if f.stays != "" && !p.Exists(f.stays) {
				t.Errorf("%s: %s is gone", f.mend, f.stays)
			}
		}
		p.types("app-rollout check", 0)
		p.types("app-rollout run", 0)
		if got, want := p.asks(), strings.Repeat("g2 ", len(foreigners)); got != want {
			t.Errorf("mended, they answer %s", got)
		}
		p.edits("full")
		p.edits("solo")
		p.parts()
		p.home()
	})
}

// foreignTold checks that each file is named with what mends it, and that nothing is
// deployed beside it.
func (p *person) foreignTold() {
	p.t.Helper()
	for _, f := range foreigners {
		mend := f.mend
		if f.app == "solo" {
			mend = "rm /etc/systemd/system/solo.service && systemctl daemon-reload" // revert would remove a rollout's file too
		}
		p.reads(p.types("app-rollout check "+f.app, 1), f.says, "; "+mend)
		p.reads(p.types("app-rollout status "+f.app, 0), "unit:", f.says, "; "+mend)
		p.reads(p.types("app-rollout run "+f.app, 1), f.says, "; "+mend, "when that is mended: app-rollout run "+f.app)
	}
}

// foreignBooted checks what the boot has started, and said.
func (p *person) foreignBooted() {
	p.t.Helper()
	log := p.journal("-u", "app-rollout-boot.service")
	want := ""
	for _, f := range foreigners {
		p.reads(log, f.app+": "+f.says, f.mend)
		boots := f.boots
		switch boots {
		case "":
			boots = f.app + "@1 " + f.app + "@2"
		case "none":
			boots = ""
		}
		if got := p.other(p.t, f.app).instances(); got != boots {
			p.t.Errorf("%s: the boot has started %q, want %q", f.app, got, boots)
		}
		if f.answer == "" {
			f.answer = "g2"
		}
		want += f.answer + " "
	}
	if got := p.asks(); got != want {
		p.t.Errorf("after the boot they answer %s, want %s", got, want)
	}
}

// asks asks each app, and returns what generation has answered.
func (p *person) asks() (answers string) {
	p.t.Helper()
	script := `import urllib.request
for port in range(8100, 8100+` + strconv.Itoa(len(foreigners)) + `):
    try:
        print(urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=5).read().decode().split()[0])
    except OSError:
        print("none")
`
	for _, answer := range strings.Fields(p.Must("python3", "-c", script)) {
		answers += answer + " "
	}
	return answers
}

// bootTook is how long the boot service ran.
func (p *person) bootTook() time.Duration {
	p.t.Helper()
	var began, ended int64
	times := p.Must("systemctl", "show", "--property=ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic", "app-rollout-boot.service")
	for line := range strings.Lines(times) {
		fmt.Sscanf(line, "ExecMainStartTimestampMonotonic=%d", &began)
		fmt.Sscanf(line, "ExecMainExitTimestampMonotonic=%d", &ended)
	}
	if began == 0 || ended == 0 {
		p.t.Errorf("the boot service has not run: %s", times)
	}
	return time.Duration(ended-began) * time.Microsecond
}

// processes: status has the generation of each process. The unit that is loaded by now
// does not matter, before the process is started again from it.
func (p *person) processes(name string) {
	p.t.Helper()
	a := p.other(p.t, name)
	generations := func() (all []int) {
		p.t.Helper()
		var r status.Report
		if err := json.Unmarshal([]byte(p.Must("app-rollout", "status", name, "--json")), &r); err != nil {
			p.t.Fatal(err)
		}
		for _, i := range r.Apps[0].Instances {
			all = append(all, i.Generation)
		}
		return all
	}
	want := func(when string, want ...int) {
		p.t.Helper()
		if got := generations(); fmt.Sprint(got) != fmt.Sprint(want) {
			p.t.Errorf("%s: the processes are of the generations %v, want %v", when, got, want)
		}
	}
	first := strings.Fields(a.instances())[0] + ".service"
	want("at first", 2, 2)
	p.Sh("sed -i s,/generations/2/,/generations/1/, /run/systemd/system/" + first + "; systemctl daemon-reload")
	if source := p.Property(first, "SourcePath"); !strings.Contains(source, "/generations/1/") {
		p.t.Fatalf("systemd has not loaded the file: %s", source)
	}
	want("another unit is loaded", 2, 2)
	a.crash(first)
	want("it was started from that", 1, 2)
	p.types("app-rollout run "+name, 0)
	want("after a run", 3, 3)
	// An instance that is kept while others go is the new generation's.
	p.Sh("echo SYSTEMD_CLUSTER_NODES=1 >>" + a.path())
	p.types("app-rollout run "+name, 0)
	want("one is kept", 4)
	p.Sh("sed -i '$d' " + a.path())
	p.types("app-rollout run "+name, 0)
	want("one has come", 5, 5)
}

// edits changes a unit file in place that a rollout has written: that is told, and what is
// named with it puts it right.
func (p *person) edits(name string) {
	p.t.Helper()
	unit := strings.Fields(p.other(p.t, name).instances())[0] + ".service"
	p.Sh("sed -i '/^.Service.$/a Nice=5' /run/systemd/system/" + unit)
	says, mend := "/run/systemd/system/"+unit+": was changed after a rollout has written it", "app-rollout restart "+name
	p.reads(p.types("app-rollout check "+name, 0), says, "; "+mend)
	p.reads(p.types("app-rollout status "+name, 0), "unit:", says, "; "+mend)
	p.types(mend, 0)
	if said := p.types("app-rollout check "+name, 0); strings.Contains(said, "was changed") {
		p.t.Errorf("it is still said:\n%s", said)
	}
	if got := p.Property(strings.Fields(p.other(p.t, name).instances())[0]+".service", "Nice"); got != "0" {
		p.t.Errorf("%s: Nice is %s", name, got)
	}
}

// parts masks what shares the ports.
func (p *person) parts() {
	p.t.Helper()
	p.types("systemctl mask app-rollout-ports.service", 0)
	const says, mend = "instances cannot share their port, unless the app sets SO_REUSEPORT itself", "systemctl unmask app-rollout-ports.service"
	p.reads(p.types("app-rollout check", 0), says+"; "+mend)
	p.reads(p.types("app-rollout run full", 0), says+"; "+mend)
	p.types(mend, 0)
	if said := p.types("app-rollout check", 0); strings.Contains(said, says) {
		p.t.Errorf("it is still said:\n%s", said)
	}
}

// limit is an editor for a drop-in. systemctl marks the place for it, but not if there is
// no such unit yet.
const limit = `#!/bin/sh
for file; do :; done
if grep -qs 'Anything between' "$file"; then
	sed -i '/Anything between/a [Service]\nMemoryMax=100M' "$file"
else
	printf '[Service]\nMemoryMax=100M\n' >"$file"
fi
`

// home: what is named to a person whose .env may not ask for something works, and gives
// no file in a home directory to root.
func (p *person) home() {
	p.t.Helper()
	p.Write("/root/limit", limit, 0o755)
	p.Write("/home/ada/.env", env("SYSTEMD_MEMORY_MAX=100M"), 0o644)
	p.Sh("useradd ada; chown -R ada: /home/ada; ln -s /home/ada/.env /etc/app-rollout/home.env")
	said := p.types("app-rollout check home", 1)
	p.reads(said, "/home/ada/.env:6: SYSTEMD_MEMORY_MAX can only be set in an .env that belongs to root; remove the line and set MemoryMax= in a drop-in: systemctl edit")
	if strings.Contains(said, "chown") {
		p.t.Errorf("it says chown")
	}
	edit := regexp.MustCompile(`systemctl edit [-@.a-z ]+`).FindString(said)
	p.types(`SYSTEMD_EDITOR=/root/limit script --quiet --return --command "`+edit+`" /dev/null`, 0)
	p.Sh("sed -i /MEMORY_MAX/d /home/ada/.env")
	p.types("app-rollout run home", 0)
	if got := p.Property("home@1.service", "MemoryMax"); got != "104857600" {
		p.t.Errorf("MemoryMax is %s", got)
	}
	// Root's own file in the directory is told to be moved, and no directory to be given away.
	p.Sh("chown root /home/ada/.env")
	said = p.types("app-rollout check home", 1)
	p.reads(said, "/home/ada: belongs to ada, not to root, the owner of the .env; move /home/ada/.env to a directory of root, or give it to ada")
	p.Must("chown", "ada", "/home/ada/.env")
	p.types("app-rollout check home", 0)
}
