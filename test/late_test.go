//go:build story

package test

import (
	"strings"
	"testing"
)

// TestLateStore: the store lies on a file system that is mounted long after the
// generators have run. Whatever lies at its mount point until then, the boot starts
// what was committed last, and nothing else. Nothing is lost.
func TestLateStore(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	v.Sh("cp -a /var/lib/app-rollout /srv/before")
	v.deploy()
	v.Sh("cp -a /var/lib/app-rollout /srv/store")
	v.Write("/etc/systemd/system/late.service", `[Unit]
DefaultDependencies=no
After=multi-user.target
[Service]
Type=oneshot
ExecStart=sh -c "ls /run/systemd/generator >/run/made; /usr/lib/systemd/system-generators/app-rollout-generator /tmp 2>/run/said"
`, 0o644)
	v.Write(`/etc/systemd/system/var-lib-app\x2drollout.mount`, `[Unit]
DefaultDependencies=no
Requires=late.service
After=late.service
[Mount]
What=/srv/store
Where=/var/lib/app-rollout
Options=bind
`, 0o644)
	for _, c := range []struct{ name, below string }{
		{"no mount point", "rm -r /var/lib/app-rollout"},
		{"an empty mount point", ":"},
		{"what was there before", "mount --bind / /mnt; cp -a /srv/before/. /mnt/var/lib/app-rollout; umount /mnt"},
	} {
		// A boot that started what the .env asks for would fail.
		v.write(v.next(), "EXIT_AT_START=3")
		v.Sh(c.below)
		v.Reboot()
		v.settles()
		if made := v.Read("/run/made"); strings.Contains(made, "shop") {
			t.Errorf("%s: before the store was there, the generator made\n%s", c.name, made)
		}
		if said := v.Read("/run/said"); !strings.Contains(said, "/var/lib/app-rollout is not there or not mounted yet") {
			t.Errorf("%s: the generator says %q", c.name, said)
		}
		v.whole(c.name, v.up)
	}

	v.up = v.next()
	v.write(v.up)
	v.Reboot()
	v.settles()
	v.whole("an edit and a reboot", v.up)
	client := v.client()
	v.deploy()
	v.whole("and run again", v.up)
	v.count("a late store", client)
}
