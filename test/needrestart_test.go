//go:build story

package test

import (
	"context"
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
		shop.Write("/etc/app-rollout/shop-jobs.env", "SYSTEMD_EXEC_START=/usr/bin/python3 -m http.server --bind 127.0.0.1 8081\nPORT=8081\n", 0o644)
		shop.Must("systemctl", "start", "app-rollout.service")
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

		// It parses by itself, and does nothing where there is no app.
		if r := shop.Run(context.Background(), "perl", "-wc", needrestartConf); r.Code != 0 || r.Err != needrestartConf+" syntax OK" {
			t.Errorf("perl -wc: status %d: %s", r.Code, r.Err)
		}

		// Without it all of them restart at once: what this test looks at is real.
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
