//go:build story

package test

import (
	"context"
	"testing"
)

const (
	fillVar = `dd if=/dev/zero of=/var/lib/app-rollout/.fill bs=4k 2>/dev/null || true`
	current = `/var/lib/app-rollout/shop/current`
)

// damages are the things that may be wrong with the disk. A new one is a line here.
var damages = []struct {
	name, damage, mend, says string
	at                       step // at which it is done; "" before the run
}{
	{"/var is full", fillVar, "rm /var/lib/app-rollout/.fill", "no space left on device", ""},
	{"/var becomes full", fillVar, "rm /var/lib/app-rollout/.fill", "no space left on device", atWatch},
	{"/run is full", `dd if=/dev/zero of=/run/fill bs=4k 2>/dev/null || true`, "rm /run/fill", "no space left on device", ""},
	{"/var is read-only", "mount -o remount,ro /var/lib/app-rollout", "mount -o remount,rw /var/lib/app-rollout", "read-only file system", ""},
	{"the record is garbage", "cp " + current + "/generation.json /root/saved; echo garbage >" + current + "/generation.json", "cp /root/saved " + current + "/generation.json", "generation.json: is damaged", ""},
	{"the record is cut off", "cp " + current + "/generation.json /root/saved; truncate -s 30 " + current + "/generation.json", "cp /root/saved " + current + "/generation.json", "generation.json: is damaged", ""},
	{"current dangles", "readlink " + current + " >/root/saved; ln -sfn generations/999 " + current, `ln -sfn "$(cat /root/saved)" ` + current, "leads to a generation that is gone", ""},
}

// TestDisk: when the disk is full, read-only or damaged, a run ends with a clear
// line and the app goes on. Once the disk is mended, the next run succeeds.
func TestDisk(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	// The store is on a small disk of its own.
	v.Sh(`cp -a /var/lib/app-rollout /root/store
mount -t tmpfs -o size=1m,mode=0700 store /var/lib/app-rollout
cp -a /root/store/. /var/lib/app-rollout`)
	v.deploy()
	client := v.client()
	for _, c := range damages {
		was := v.instances()
		now := v.next()
		v.write(now)
		since := v.Sh("date +@%s.%6N")
		if c.at == "" {
			v.Sh(c.damage)
			if r := v.Run(context.Background(), "systemctl", "start", v.service()); r.Code == 0 {
				t.Errorf("%s: the run says that all went well", c.name)
			}
		} else {
			v.wounds(now, wound{at: c.at, do: c.damage})
			v.settles()
		}
		v.logged(c.says, "--since="+since, "_SYSTEMD_UNIT="+v.service(), "+", "APP_ROLLOUT_SERVICE="+v.service())
		v.Run(context.Background(), "systemctl", "daemon-reload")
		if now := v.instances(); now != was {
			t.Errorf("%s: %q run, before it %q", c.name, now, was)
		}
		v.Sh(c.mend)
		v.whole(c.name+", mended", v.up)
		v.deploy()
		v.whole(c.name+", and run again", v.up)
	}
	v.count("disk", client)
}
