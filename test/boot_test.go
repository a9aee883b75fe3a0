//go:build story

package test

import (
	"regexp"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// TestBoot: the boot starts what last worked, and rolls out what is asked for after
// that.
func TestBoot(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)

		// Nothing is recorded: systemd starts nothing, and the boot service rolls out what
		// the .env asks for.
		shop.write("GENERATION=g1", "SYSTEMD_CLUSTER_NODES=3")
		shop.Reboot()
		shop.booted()
		shop.want("shop@1 shop@2 shop@3")
		if !shop.Exists("/var/lib/app-rollout/shop/current/generation.json") {
			t.Fatal("the generation is not recorded")
		}
		shop.answersOnly("g1")

		// A daemon-reload afterwards changes nothing.
		shop.Must("systemctl", "daemon-reload")
		if shop.Exists("/run/systemd/generator/shop.generation") {
			t.Error("the generator still emits what is not recorded")
		}
		if got := shop.Property("shop@1.service", "NeedDaemonReload"); got != "no" {
			t.Errorf("NeedDaemonReload=%s", got)
		}

		// An edit is pending: the old generation is up at once, the new one a little
		// later.
		shop.write("GENERATION=g2", "SYSTEMD_CLUSTER_NODES=2")
		shop.Reboot()
		shop.booted()
		log := shop.journal()
		first, then := strings.Index(log, "Started shop@2.service"), strings.Index(log, "Starting app-rollout-boot.service")
		if first < 0 || then < first {
			t.Errorf("the old generation was not started before the boot service:\n%s", log)
		}
		shop.want("shop@4 shop@5")
		shop.answersOnly("g2")

		// After a power cut with nothing pending the same generation is up, as 1 and 2.
		shop.Kill()
		shop.PowerOn()
		shop.booted()
		shop.want("shop@1 shop@2")
		shop.answersOnly("g2")

		// An .env that cannot be read stops nothing.
		shop.Sh("rm /etc/app-rollout/shop.env; ln -s /srv/gone/.env /etc/app-rollout/shop.env")
		shop.Reboot()
		shop.boot("failed")
		shop.want("shop@1 shop@2")
		shop.answersOnly("g2")

		// Without an .env the boot starts nothing.
		shop.Sh("rm /etc/app-rollout/shop.env")
		shop.Reboot()
		shop.booted()
		shop.want("")
	})
}

// TestBootPorts: what was never ready is started after what was, and takes no port from
// it, however often the power is cut and whoever owns the .env files. Those that are
// refused are named.
func TestBootPorts(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	shop.Sh("useradd mallory; useradd bob; mkdir -p /srv/mallory /srv/bob")
	owned := func(user, name string, lines ...string) *app {
		shop.Write("/srv/"+user+"/.env", env(lines...), 0o600)
		shop.Sh("chown -R " + user + ": /srv/" + user + "; ln -s /srv/" + user + "/.env /etc/app-rollout/" + name + ".env")
		return shop.other(t, name)
	}
	shop.deploy("GENERATION=good")
	bobs := owned("bob", "worker", "PORT=8081", "GENERATION=good")
	bobs.rollOut()

	// All of their names come first.
	refused := map[string]*app{
		"port 8080 belongs to shop; give adup another PORT":      shop.other(t, "adup"),
		"port 8080 belongs to shop; give aintruder another PORT": owned("mallory", "aintruder", "GENERATION=bad"),
		"port 8081 belongs to worker; give aroots another PORT":  shop.other(t, "aroots"),
		"give atwin2 another PORT":                               shop.other(t, "atwin2"), // the port goes to atwin, or belongs to it already
		"abad: is not started: it was never ready":               shop.other(t, "abad"),
	}
	shop.other(t, "adup").fails("the same PORT", "port 8080 belongs to shop", "GENERATION=bad")
	shop.other(t, "aroots").write("PORT=8081", "GENERATION=bad")
	shop.other(t, "abad").fails("never ready", "exited with status 3", "PORT=8083", "EXIT_AT_START=3")
	twin := shop.other(t, "atwin")
	twin.write("PORT=8082")
	shop.other(t, "atwin2").write("PORT=8082")

	for cut := range 3 {
		shop.Kill()
		shop.PowerOn()
		shop.boot("failed")
		shop.want("shop@1 shop@2")
		shop.answersOnly("good")
		bobs.want("worker@1 worker@2")
		twin.want("atwin@1 atwin@2")
		for why, app := range refused {
			shop.logged(why, "-u", "app-rollout-boot.service")
			app.want("")
		}
		log := shop.journal()
		if line := regexp.MustCompile(`(?m)^(Started|Starting) (adup|aintruder|aroots|atwin2|abad)@.*`).FindString(log); line != "" {
			t.Errorf("power cut %d: %s", cut+1, line)
		}
		for _, unit := range []string{"shop@1.service", "shop@2.service", "worker@1.service"} {
			if got := shop.Property(unit, "NRestarts"); got != "0" {
				t.Errorf("power cut %d: %s was started again %s times", cut+1, unit, got)
			}
		}
	}
}
