//go:build story

package test

import (
	"context"
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
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			m := machine.Boot(t, machine.Options{Release: release, Install: true, Packages: []string{"needrestart"}, Layers: []string{machine.Apps(t)}})
			gunicorn := "SYSTEMD_EXEC_START=/usr/bin/gunicorn --chdir /opt/apps -b 127.0.0.1:8080 -w 1 -k gthread --threads 8 wsgi:app"
			m.Write("/etc/app-rollout/shop.env", shop(gunicorn), 0o644)
			m.Write("/etc/app-rollout/shop-jobs.env", "SYSTEMD_EXEC_START=/usr/bin/python3 -m http.server --bind 127.0.0.1 8081\nPORT=8081\n", 0o644)
			m.Must("systemctl", "start", "app-rollout.service")
			// Second instances lie elsewhere than those of the boot.
			deploys(t, m, "shop")
			want(t, m, "shop", "shop@3 shop@4")
			// These are nobody's apps, whatever they are called.
			others := []string{"shop-jobs@1", "shopping", "web"}
			for _, unit := range others {
				m.Must("systemd-run", "--unit="+unit+".service", "/usr/bin/python3", "-c", "import time; time.sleep(3600)")
			}
			ours := []string{"shop@3", "shop@4", "shop-jobs"}

			client := m.Load(load.Options{Addr: "127.0.0.1:8080", Workers: 4})
			m.Wait("answers", 20*time.Second, func() bool { return client.Answered() > 100 })
			before, othersBefore := mainPIDs(m, ours...), mainPIDs(m, others...)
			upgradeLibrary(m)
			said := needrestart(t, m)
			t.Log(said)
			if got := mainPIDs(m, ours...); got != before {
				t.Errorf("needrestart restarted instances: %s, before %s\n%s", got, before, said)
			}
			for i, pid := range strings.Fields(mainPIDs(m, others...)) {
				if pid == strings.Fields(othersBefore)[i] {
					t.Errorf("needrestart did not restart %s, which is no app's\n%s", others[i], said)
				}
			}
			answered := client.Answered()
			m.Wait("answers afterwards", 20*time.Second, func() bool { return client.Answered() > answered+100 })
			nothingLost(t, client.Stop())

			// A rollout that runs ends by itself: needrestart does not name it, though
			// its program was upgraded.
			m.Write("/etc/app-rollout/shop.env", shop(gunicorn, "SYSTEMD_CLUSTER_WATCH_SEC=300"), 0o644)
			m.Must("systemctl", "start", "--no-block", "app-rollout@shop.service")
			m.Wait("the watch", time.Minute, func() bool {
				return strings.Contains(m.Property("app-rollout@shop.service", "StatusText"), "watch")
			})
			m.Sh("cp -p /usr/lib/app-rollout/rollout-helper /usr/lib/app-rollout/new && mv /usr/lib/app-rollout/new /usr/lib/app-rollout/rollout-helper")
			upgradeLibrary(m)
			if said := m.Must("needrestart", "-b"); strings.Contains(said, "app-rollout") || !strings.Contains(said, "NEEDRESTART-SVC: web.service") {
				t.Errorf("needrestart -b: %s", said)
			}
			m.Must("systemctl", "stop", "app-rollout@shop.service")
			want(t, m, "shop", "shop@3 shop@4")

			// It parses by itself, and does nothing where there is no app.
			if r := m.Run(context.Background(), "perl", "-wc", needrestartConf); r.Code != 0 || r.Err != needrestartConf+" syntax OK" {
				t.Errorf("perl -wc: status %d: %s", r.Code, r.Err)
			}

			// Without it all of them restart at once: what this test looks at is real.
			m.Must("mv", needrestartConf, needrestartConf+".off")
			said = needrestart(t, m)
			if got := strings.Fields(mainPIDs(m, ours...)); strings.Contains(before, got[0]) || strings.Contains(before, got[1]) || strings.Contains(before, got[2]) {
				t.Errorf("without the drop-in: %s, before %s\n%s", got, before, said)
			}

			// A package that was removed but not purged leaves it behind.
			m.Must("mv", needrestartConf+".off", needrestartConf)
			m.Must("dpkg", "--remove", "app-rollout")
			if !m.Exists(needrestartConf) {
				t.Fatal("the removal has taken the configuration")
			}
			m.Must("systemd-run", "--unit=shop@3.service", "/usr/bin/python3", "-c", "import time; time.sleep(3600)")
			left := mainPIDs(m, "shop@3")
			upgradeLibrary(m)
			said = needrestart(t, m)
			if mainPIDs(m, "shop@3") == left {
				t.Errorf("the package is gone, but needrestart leaves shop@3 alone\n%s", said)
			}
			m.Must("dpkg", "--purge", "app-rollout")
			if m.Exists(needrestartConf) {
				t.Errorf("purged, but %s is still there", needrestartConf)
			}
		})
	}
}

// mainPIDs are the main processes of these services, in this order.
func mainPIDs(m *machine.Machine, services ...string) string {
	var pids []string
	for _, s := range services {
		pids = append(pids, m.Property(s+".service", "MainPID"))
	}
	return strings.Join(pids, " ")
}

// upgradeLibrary does to a library that Python has loaded what an upgrade does:
// another file takes its name.
func upgradeLibrary(m *machine.Machine) {
	m.Sh(`library=$(readlink -f /usr/lib/*/libexpat.so.1)
cp -p "$library" "$library.new"
mv "$library.new" "$library"`)
}

// needrestart does what apt does after an upgrade, set to restart services
// without asking.
func needrestart(t *testing.T, m *machine.Machine) string {
	t.Helper()
	m.Sh("mkdir -p /run/needrestart && touch /run/needrestart/unpacked")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := m.Run(ctx, "env", "NEEDRESTART_MODE=a", "/usr/lib/needrestart/apt-pinvoke")
	if r.Code != 0 || strings.Contains(r.Err, "rror") {
		t.Fatalf("needrestart: status %d\n%s\n%s", r.Code, r.Out, r.Err)
	}
	return r.Out + r.Err
}
