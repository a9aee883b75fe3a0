package units

import (
	"maps"
	"os"
	"strings"
	"testing"
)

// TestShadows: an app that was never ready yields to whoever has the names of its units.
func TestShadows(t *testing.T) {
	l := tree(t, map[string]string{
		"/usr/lib/systemd/system/ssh.service":         "[Unit]\n",
		"/usr/lib/systemd/system/getty@.service":      "[Unit]\n",
		"/usr/lib/systemd/system/getty.service":       "[Unit]\n",
		"/usr/local/lib/systemd/system/mine.service":  "-> /opt/mine.service",
		"/etc/systemd/system/linked.service":          "-> /opt/linked.service",
		"/etc/systemd/system/masked@.service":         "-> /dev/null",
		"/etc/systemd/system/one@12.service":          "[Unit]\n",
		"/etc/systemd/system/other@.service":          "-> shop@.service",
		"/etc/systemd/system/shop@x.service":          "[Unit]\n",
		"/etc/systemd/system/shop-more.service":       "[Unit]\n",
		"/etc/init.d/old":                             "#!",
		"/run/systemd/system/shop.service":            Header + "[Unit]\n",
		"/run/systemd/system/shop@3.service":          Header + "[Unit]\n",
		"/etc/systemd/system/dropin.service.d/x.conf": "",
		"/lib/systemd/system/unmerged.service":        "[Unit]\n",
	})
	for app, want := range map[string]string{
		"unmerged": "installed as /lib/systemd/system/unmerged.service; rename the file",
		"ssh":      "installed as /usr/lib/systemd/system/ssh.service; rename the file",
		"getty":    "installed as /usr/lib/systemd/system/getty.service; rename the file",
		"mine":     "installed as /usr/local/lib/systemd/system/mine.service; rename the file",
		"linked":   "installed as /etc/systemd/system/linked.service; rename the file",
		"masked":   "/etc/systemd/system/masked@.service: masks masked@.service, so that systemd does not start it; systemctl unmask masked@.service",
		"one":      "installed as /etc/systemd/system/one@12.service; rename the file",
		"other":    "installed as /etc/systemd/system/other@.service; rename the file",
		"old":      "init script /etc/init.d/old; rename the file",
		"shop":     "",
		"dropin":   "",
	} {
		for _, l := range cachedAndNot(t, l) {
			err := l.Shadows(app)
			if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s: %v", app, err)
			}
		}
	}
}

// foreign are files in the name of an app that was ready, beside the unit that the
// generator has made of it: what is said of each, and the command that mends it.
var foreign = []struct {
	name  string
	files map[string]string
	want  string
}{
	{"a copy, as by systemctl edit --full", map[string]string{"/etc/systemd/system/shop@.service": Header + "[Unit]\n"},
		"/etc/systemd/system/shop@.service: is a copy of a unit that app-rollout generates, and stands in its way; systemctl revert shop@.service" + afterwards},
	{"a copy, as by systemctl edit --full --runtime", map[string]string{"/run/systemd/system/shop@.service": Header},
		"/run/systemd/system/shop@.service: is a copy of a unit that app-rollout generates, and stands in its way; systemctl revert shop@.service" + afterwards},
	{"a copy beside drop-ins, which revert would remove", map[string]string{"/etc/systemd/system/shop@.service": Header, "/etc/systemd/system/shop@.service.d/more.conf": "[Service]\n"},
		"/etc/systemd/system/shop@.service: is a copy of a unit that app-rollout generates, and stands in its way; rm /etc/systemd/system/shop@.service && systemctl daemon-reload" + afterwards},
	{"a copy beside what set-property has written", map[string]string{"/etc/systemd/system/shop@.service": Header, "/etc/systemd/system.control/shop@.service.d/50-MemoryMax.conf": "[Service]\n"},
		"/etc/systemd/system/shop@.service: is a copy of a unit that app-rollout generates, and stands in its way; rm /etc/systemd/system/shop@.service && systemctl daemon-reload" + afterwards},
	{"a copy for one instance, of which there is no original", map[string]string{"/etc/systemd/system/shop@1.service": Header},
		"/etc/systemd/system/shop@1.service: is a copy of a unit that app-rollout generates, and stands in its way; rm /etc/systemd/system/shop@1.service && systemctl daemon-reload" + afterwards},
	{"a copy among the packages' units", map[string]string{"/usr/local/lib/systemd/system/shop@.service": Header},
		"/usr/local/lib/systemd/system/shop@.service: is a copy of a unit that app-rollout generates, and stands in its way; rm /usr/local/lib/systemd/system/shop@.service && systemctl daemon-reload" + afterwards},
	{"a mask", map[string]string{"/etc/systemd/system/shop@.service": "-> /dev/null"},
		"/etc/systemd/system/shop@.service: masks shop@.service, so that systemd does not start it; systemctl unmask shop@.service"},
	{"an empty file", map[string]string{"/etc/systemd/system/shop@1.service": ""},
		"/etc/systemd/system/shop@1.service: masks shop@1.service, so that systemd does not start it; systemctl unmask shop@1.service"},
	{"a mask until reboot", map[string]string{"/run/systemd/system/shop@.service": "-> /dev/null"},
		"/run/systemd/system/shop@.service: masks shop@.service, so that systemd does not start it; systemctl unmask --runtime shop@.service"},
	{"a link", map[string]string{"/etc/systemd/system/shop@.service": "-> /run/systemd/generator/shop@.service"},
		"/etc/systemd/system/shop@.service: has the name of a unit of the app, but is a link that app-rollout has not made; rm /etc/systemd/system/shop@.service && systemctl daemon-reload"},
	{"another unit", map[string]string{"/run/systemd/system/shop@4.service": "[Unit]\n"},
		"/run/systemd/system/shop@4.service: has the name of a unit of the app, but app-rollout has not generated it; mv /run/systemd/system/shop@4.service /run/systemd/system/shop@4.service.off && systemctl daemon-reload"},
	{"two", map[string]string{"/etc/systemd/system/shop.service": "-> /dev/null", "/usr/lib/systemd/system/shop.service": "[Unit]\n"},
		"/etc/systemd/system/shop.service: masks shop.service, so that systemd does not start it; systemctl unmask shop.service\n" +
			"/etc/app-rollout/shop.env: the app would have the name of a unit that is installed as /usr/lib/systemd/system/shop.service; rename the file"},
}

const afterwards = "; after that, changes go into a drop-in: systemctl edit --force shop@.service"

func TestForeign(t *testing.T) {
	for _, c := range foreign {
		files := maps.Clone(c.files)
		files[GeneratorDir+"/shop@.service"] = Header
		for _, l := range cachedAndNot(t, tree(t, files)) {
			if got := strings.Join(lines(l.Shadows("shop")), "\n"); got != c.want {
				t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
			}
		}
	}
}

// In mode 0, revert would remove the file too that a rollout has written.
func TestForeignService(t *testing.T) {
	files := map[string]string{GeneratorDir + "/shop.service": Header, "/etc/systemd/system/shop.service": Header}
	const says = "/etc/systemd/system/shop.service: is a copy of a unit that app-rollout generates, and stands in its way; "
	const then = "; after that, changes go into a drop-in: systemctl edit --force shop.service"
	if got, want := strings.Join(lines(tree(t, files).Shadows("shop")), "\n"), says+"systemctl revert shop.service"+then; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	files[UnitDir+"/shop.service"] = Header
	if got, want := strings.Join(lines(tree(t, files).Shadows("shop")), "\n"), says+"rm /etc/systemd/system/shop.service && systemctl daemon-reload"+then; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// A directory is looked into once, whatever names it has.
func TestUnitDirs(t *testing.T) {
	l := tree(t, map[string]string{
		"/usr/lib/systemd/system/ssh.service": "[Unit]\n",
		"/lib":                                "-> usr/lib",
		"/etc/systemd/system":                 "-> ../../srv/units",
		"/srv/units/mine.service":             "[Unit]\n",
	})
	for _, l := range cachedAndNot(t, l) {
		if got, want := strings.Join(l.unitDirs(), " "), "/etc/systemd/system /usr/lib/systemd/system"; got != want {
			t.Errorf("they are %s, want %s", got, want)
		}
		for app, want := range map[string]string{"ssh": "/usr/lib/systemd/system/ssh.service", "mine": "/etc/systemd/system/mine.service"} {
			if err := l.Shadows(app); err == nil || !strings.Contains(err.Error(), "installed as "+want+";") {
				t.Errorf("%s: %v", app, err)
			}
		}
	}
}

// TestParts: each unit that the package ships is told of when it is masked, with a
// command that a shell takes as it stands.
func TestParts(t *testing.T) {
	shipped, err := os.ReadDir("system")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range shipped {
		if strings.HasSuffix(e.Name(), ".conf") {
			continue
		}
		l := tree(t, map[string]string{"/etc/systemd/system/" + e.Name(): "-> /dev/null"})
		all := l.MaskedParts()
		if len(all) != 1 || !strings.Contains(all[0].Text, "masks "+e.Name()) || !strings.HasPrefix(all[0].Remedy, "systemctl unmask ") ||
			strings.Contains(e.Name(), `\`) != strings.Contains(all[0].Remedy, "'"+e.Name()+"'") {
			t.Errorf("%s: %v", e.Name(), all)
		}
	}
	for unit, keeps := range map[string]bool{PortsService: true, bpfMount: true, "app-rollout.service": false} {
		l := tree(t, map[string]string{"/run/systemd/system/" + unit: ""})
		if p := l.Unshared(); (p != nil) != keeps {
			t.Errorf("%s: %v", unit, p)
		}
	}
}
