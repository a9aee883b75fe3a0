//go:build story

package test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/load"
	"app-rollout/test/machine"
)

// needrestartConf is what the package tells needrestart.
const needrestartConf = "/etc/needrestart/conf.d/app-rollout.conf"

// TestNeedrestart: Debian's needrestart, as apt calls it for unattended-upgrades,
// restarts what uses an upgraded library, but never the instances of an app, which
// would all restart at once.
func TestNeedrestart(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		on.Packages = []string{"needrestart"}
		shop := newShop(t, on)
		gthread := "SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps -b 127.0.0.1:8080 -w 1 -k gthread --threads 8 wsgi:app"
		shop.write(gthread)
		shop.Write("/etc/app-rollout/shop-jobs.env", "SYSTEMD_EXEC_START=/usr/bin/python3 -m http.server --bind 127.0.0.1 8081\nPORT=8081\nSYSTEMD_CLUSTER_WATCH_SEC=1\n", 0o644)
		shop.Must("systemctl", "start", "app-rollout.service")
		shop.Wait("the summary of the run", 20*time.Second, func() bool {
			return regexp.MustCompile(`done in \S+ s: shop is on generation 1, shop-jobs is on generation 1`).MatchString(shop.Sh("systemctl status app-rollout.service || true"))
		})
		// Second instances lie elsewhere than those of the boot.
		shop.rollOut()
		shop.want("shop@3 shop@4")
		// These are nobody's apps, whatever they are called.
		others := []string{"shop-jobs@1", "shopping", "web"}
		for _, unit := range others {
			shop.Must("systemd-run", "--unit="+unit+".service", "/usr/bin/python3", "-c", "import time; time.sleep(3600)")
		}
		ours := []string{"shop@3", "shop@4", "shop-jobs"}

		client := shop.Load(load.Options{Addr: port, Workers: 4})
		shop.more(client, 100)
		before, othersBefore := shop.mainPIDs(ours...), shop.mainPIDs(others...)
		shop.upgradeLibrary()
		said := shop.needrestart()
		t.Log(said)
		if got := shop.mainPIDs(ours...); got != before {
			t.Errorf("needrestart restarted instances: %s, before %s\n%s", got, before, said)
		}
		for i, pid := range strings.Fields(shop.mainPIDs(others...)) {
			if pid == strings.Fields(othersBefore)[i] {
				t.Errorf("needrestart did not restart %s, which is no app's\n%s", others[i], said)
			}
		}
		shop.more(client, 100)
		nothingLost(t, client.Stop())

		shop.needrestartInARollout(gthread)
		shop.restartsAsNamed()
		shop.restartsAtNight()

		// It parses by itself, and does nothing where there is no app.
		if r := shop.Run(context.Background(), "perl", "-wc", needrestartConf); r.Code != 0 || r.Err != needrestartConf+" syntax OK" {
			t.Errorf("perl -wc: status %d: %s", r.Code, r.Err)
		}

		// Without it all of them restart at once: what this test looks at is real.
		ours = append(strings.Fields(shop.instances()), "shop-jobs")
		before = shop.mainPIDs(ours...)
		shop.upgradeLibrary()
		shop.Must("mv", needrestartConf, needrestartConf+".off")
		said = shop.needrestart()
		got := shop.mainPIDs(ours...)
		for _, pid := range strings.Fields(got) {
			if slices.Contains(strings.Fields(before), pid) {
				t.Errorf("without the drop-in: %s, before %s\n%s", got, before, said)
			}
		}
		shop.Must("mv", needrestartConf+".off", needrestartConf)
		shop.needrestartAfterRemoval()
	})
}

// needrestartInARollout holds that needrestart does not name a rollout that runs,
// though its program was upgraded: it ends by itself.
func (a *app) needrestartInARollout(lines ...string) {
	a.t.Helper()
	a.begins("watch", append(lines, "SYSTEMD_CLUSTER_WATCH_SEC=300")...)
	a.Sh("cp -p /usr/lib/app-rollout/rollout-helper /usr/lib/app-rollout/new && mv /usr/lib/app-rollout/new /usr/lib/app-rollout/rollout-helper")
	a.upgradeLibrary()
	if said := a.Must("needrestart", "-b"); strings.Contains(said, "app-rollout") || !strings.Contains(said, "NEEDRESTART-SVC: web.service") {
		a.t.Errorf("needrestart -b: %s", said)
	}
	a.Must("systemctl", "stop", a.service())
	a.want("shop@3 shop@4")
}

// restartsAsNamed types what needrestart names, under load: nothing is lost, the
// instances use the new library, and their generation is the one that was up, though
// the .env is somebody else's by now.
func (a *app) restartsAsNamed() {
	a.t.Helper()
	a.Sh("echo SYSTEMD_EXEC_START=/tmp/evil >" + a.path() + "; chown nobody " + a.path())
	a.upgradeLibrary()
	said := a.needrestart()
	named := regexp.MustCompile(`(?m)^ *(app-rollout .*)$`).FindAllString(said, -1)
	slices.Sort(named)
	if got := strings.Join(named, ""); got != " app-rollout restart shop app-rollout restart shop-jobs" {
		a.t.Fatalf("needrestart names %q:\n%s", got, said)
	}
	generation, old := a.receipt("current").Number, a.instances()
	if a.outdated(old, "shop-jobs") == "" {
		a.t.Error("no instance uses the old library: there is nothing to restart")
	}
	client := a.clients(4, 3*time.Millisecond)
	a.more(client, 100)
	for _, command := range named {
		if r := a.Run(context.Background(), "sh", "-c", command); r.Code != 0 {
			a.t.Errorf("%s: status %d\n%s%s", command, r.Code, r.Out, r.Err)
		}
	}
	a.more(client, 100)
	nothingLost(a.t, client.Stop())
	if now := a.instances(); now == old || strings.Count(now, "shop@") != 2 || a.outdated(now, "shop-jobs") != "" {
		a.t.Errorf("%s run, were %s; with the old library: %s", now, old, a.outdated(now, "shop-jobs"))
	}
	if got := a.receipt("current").Number; got != generation {
		a.t.Errorf("generation %d is up, it was %d", got, generation)
	}
}

// outdated are the processes of these units that use a library that is gone.
func (a *app) outdated(units ...string) string {
	a.t.Helper()
	return a.Sh(`for unit in ` + strings.Join(units, " ") + `; do
	for pid in $(cat "/sys/fs/cgroup$(systemctl show --value -p ControlGroup "$unit.service")/cgroup.procs"); do
		grep -q 'libexpat.*(deleted)' "/proc/$pid/maps" && echo "$unit $pid" || true
	done
done`)
}

// restartsAtNight follows the guide: its timer restarts the app if that is needed, and
// only then.
func (a *app) restartsAtNight() {
	a.t.Helper()
	guide, err := os.ReadFile(filepath.Join(machine.Root(), "packaging/guides/upgrades.md"))
	if err != nil {
		a.t.Fatal(err)
	}
	client := a.clients(4, 3*time.Millisecond)
	a.follows(string(guide), a.upgradeLibrary)
	verified := a.Run(context.Background(), "systemd-analyze", "verify", "--man=no", "--generators=yes", "upgraded@shop.service", "upgraded@shop.timer")
	if verified.Code != 0 || verified.Out+verified.Err != "" {
		a.t.Errorf("systemd-analyze verify: %s%s", verified.Out, verified.Err)
	}
	if timers := a.Must("systemctl", "list-timers", "--no-legend", "upgraded@*"); !strings.Contains(timers, "upgraded@shop.timer") {
		a.t.Errorf("the timer does not wait for the night: %s", timers)
	}
	before := a.instances()
	a.Must("systemctl", "start", "upgraded@shop.service")
	a.want(before)
	a.upgradeLibrary()
	a.Must("systemctl", "start", "upgraded@shop.service")
	if after := a.instances(); after == before || a.outdated(after) != "" {
		a.t.Errorf("the library was upgraded, but %s run, as before %s", after, before)
	}
	nothingLost(a.t, client.Stop())
}

// needrestartAfterRemoval holds that the package, removed but not purged, leaves
// the configuration behind, and that it then does nothing.
func (a *app) needrestartAfterRemoval() {
	a.t.Helper()
	a.Must("dpkg", "--remove", "app-rollout")
	if !a.Exists(needrestartConf) {
		a.t.Fatal("the removal has taken the configuration")
	}
	a.Must("systemd-run", "--unit=shop@3.service", "/usr/bin/python3", "-c", "import time; time.sleep(3600)")
	left := a.mainPIDs("shop@3")
	a.upgradeLibrary()
	said := a.needrestart()
	if a.mainPIDs("shop@3") == left {
		a.t.Errorf("the package is gone, but needrestart leaves shop@3 alone\n%s", said)
	}
	a.Must("dpkg", "--purge", "app-rollout")
	if a.Exists(needrestartConf) {
		a.t.Errorf("purged, but %s is still there", needrestartConf)
	}
}

// mainPIDs are the main processes of these services, in this order.
func (a *app) mainPIDs(services ...string) string {
	var pids []string
	for _, s := range services {
		pids = append(pids, a.Property(s+".service", "MainPID"))
	}
	return strings.Join(pids, " ")
}

// upgradeLibrary does to a library that Python has loaded what an upgrade does:
// another file takes its name.
func (a *app) upgradeLibrary() {
	a.Sh(`library=$(readlink -f /usr/lib/*/libexpat.so.1)
cp -p "$library" "$library.new"
mv "$library.new" "$library"`)
}

// needrestart does what apt does after an upgrade, set to restart services
// without asking.
func (a *app) needrestart() string {
	a.t.Helper()
	a.Sh("mkdir -p /run/needrestart && touch /run/needrestart/unpacked")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := a.Run(ctx, "env", "NEEDRESTART_MODE=a", "/usr/lib/needrestart/apt-pinvoke")
	if r.Code != 0 || strings.Contains(r.Err, "rror") {
		a.t.Fatalf("needrestart: status %d\n%s\n%s", r.Code, r.Out, r.Err)
	}
	return r.Out + r.Err
}
