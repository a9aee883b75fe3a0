//go:build story

package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
	"app-rollout/test/servers"
)

// djangoSite is a Django project, by file. Its only page counts the items in a database,
// which lies beside the releases.
var djangoSite = map[string]string{
	"settings.py": `SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["items"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/shop/shared/db.sqlite3", "OPTIONS": {"timeout": 2}}}
`,
	"urls.py": `import os
from django.http import HttpResponse
from django.urls import path
from items.models import Item

urlpatterns = [path("", lambda request: HttpResponse("%s has %d items\n" % (os.environ["GENERATION"], Item.objects.count())))]
`,
	"wsgi.py": `from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
`,
	"manage.py": `import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
`,
	"items/__init__.py":            "",
	"items/migrations/__init__.py": "",
	"items/models.py": `from django.db import models

class Item(models.Model):
    id = models.AutoField(primary_key=True)
`,
}

// djangoMigrations are the migrations, in their order; each release has one more.
var djangoMigrations = []string{`
    operations = [migrations.CreateModel("Item", [("id", models.AutoField(primary_key=True))])]`, `
    operations = [migrations.AddField("Item", "name", models.TextField(default=""))]`, `
    def add(apps, schema):
        apps.get_model("items", "Item").objects.create(name="half")
        print("half-way there", flush=True)
        if not os.path.exists("/srv/shop/shared/mended"):
            raise ValueError("this item cannot be converted")
    operations = [migrations.RunPython(add)]`, `
    def wait(apps, schema):
        open("/srv/shop/shared/waits-%d" % os.getpid(), "w")
        while not os.path.exists("/srv/shop/shared/go"):
            time.sleep(0.05)
    operations = [migrations.RunPython(wait)]`,
}

// djangoRelease makes release n of the shop, and moves the link to it.
func (a *app) djangoRelease(n int) {
	a.t.Helper()
	dir := fmt.Sprintf("/srv/shop/releases/%d", n)
	for name, text := range djangoSite {
		a.Write(dir+"/"+name, text, 0o644)
	}
	before := ""
	for i, body := range djangoMigrations[:n] {
		name := fmt.Sprintf("%04d", i+1)
		text := "import os, time\nfrom django.db import migrations, models\n\nclass Migration(migrations.Migration):\n    dependencies = [" + before + "]" + body + "\n"
		a.Write(dir+"/items/migrations/"+name+".py", text, 0o644)
		before = `("items", "` + name + `")`
	}
	a.Sh("ln -sfn " + dir + " /srv/shop/current; chown -R shop: /srv/shop")
}

// TestRelease: the release command is a real Django migration. One that succeeds is run
// once, before the new instances; while one waits for a lock, fails half-way or takes too
// long, nothing is touched and nobody loses a request; one whose helper was killed is never
// run twice at the same time; and a boot runs none.
func TestRelease(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Packages: servers.Packages()})
	shop.Sh("useradd --system shop; mkdir -p /srv/shop/shared")
	deploy := func(release int, lines ...string) machine.Result {
		t.Helper()
		shop.djangoRelease(release)
		shop.Write(shop.path(), strings.Join(append([]string{
			"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_CLUSTER_WATCH_SEC=1", "PORT=8080", "SYSTEMD_USER=shop",
			"SYSTEMD_WORKING_DIRECTORY=/srv/shop/current", "SYSTEMD_READ_WRITE_PATHS=/srv/shop/shared", "DJANGO_SETTINGS_MODULE=settings",
			"SYSTEMD_EXEC_START='/usr/bin/gunicorn -b 127.0.0.1:8080 -k gthread --threads 4 wsgi'",
			"SYSTEMD_CLUSTER_RELEASE_COMMAND='/usr/bin/python3 manage.py migrate --no-input'",
			"SYSTEMD_CLUSTER_HEALTH_PATH=/", fmt.Sprintf("GENERATION=r%d", release),
		}, lines...), "\n")+"\n", 0o600)
		return shop.run()
	}
	well := func(r machine.Result) {
		t.Helper()
		if r.Code != 0 {
			t.Fatalf("status %d: %s%s", r.Code, r.Out, r.Err)
		}
	}
	failed := func(r machine.Result, why string) {
		t.Helper()
		if r.Code != 1 || !strings.Contains(r.Err, why) || !strings.Contains(r.Err, "generation 2 still serves") {
			t.Errorf("status %d, want 1 and %q: %s%s", r.Code, why, r.Out, r.Err)
		}
		shop.want("shop@3 shop@4")
	}
	well(deploy(1))
	clients := shop.busy()
	well(deploy(2))
	shop.want("shop@3 shop@4")
	if steps := shop.receipt("current").Rollout.Steps; steps[0].Name != "release" || steps[0].Milliseconds == 0 {
		t.Errorf("the receipt's steps are %v", steps)
	}
	if log := shop.Must("app-rollout", "logs", "-n", "1000", "shop"); !strings.Contains(log, "shop release") || !strings.Contains(log, "Applying items.0002... OK") {
		t.Errorf("the app's log lacks what the release command printed:\n%s", log)
	}
	if shown := shop.Must("app-rollout", "show", "shop"); !strings.Contains(shown, "manage.py migrate --no-input") || !strings.Contains(shown, "TimeoutStartSec=600s") {
		t.Errorf("show prints no unit of the release command:\n%s", shown)
	}

	// It fails half-way. The next run does it again.
	failed(deploy(3), "app-rollout-release@shop.service exited with status 1")
	shop.logged("this item cannot be converted", "-u", "app-rollout-release@shop.service")
	shop.noRelease("a migration that fails")
	shop.Sh("touch /srv/shop/shared/mended")

	// Another program has the lock of the database.
	shop.Must("systemd-run", "--quiet", "--unit=locker", "/usr/bin/python3", "-c",
		"import sqlite3, time; c = sqlite3.connect('/srv/shop/shared/db.sqlite3', isolation_level=None); c.execute('begin immediate'); open('/run/locked', 'w'); time.sleep(1000)")
	shop.Wait("the lock", 20*time.Second, func() bool { return shop.Exists("/run/locked") })
	failed(shop.run(), "app-rollout-release@shop.service exited with status 1")
	shop.logged("database is locked", "-u", "app-rollout-release@shop.service")
	shop.Must("systemctl", "stop", "locker")
	shop.releaseOutlives(deploy, failed)
	shop.want("shop@5 shop@6")
	shop.answersOnly("r4")
	nothingLost(t, clients.Stop())

	// What is asked for has a release command, so the boot stays on what is recorded.
	shop.Sh("sed -i s/GENERATION=r4/GENERATION=r5/ " + shop.path())
	shop.Reboot()
	shop.booted()
	shop.want("shop@1 shop@2")
	shop.answersOnly("r4")
	shop.logged("what the .env asks for has a release command, which a boot does not run; to roll it out: app-rollout run shop", "-u", "app-rollout-boot.service")
	well(shop.run())
	shop.answersOnly("r5")
}

// releaseOutlives deploys a migration that waits: it takes too long; and it outlives the
// helper that has begun it, and the next run waits for its end.
func (a *app) releaseOutlives(deploy func(int, ...string) machine.Result, failed func(machine.Result, string)) {
	const unit = "app-rollout-release@shop.service"
	waits := func() string { return strings.TrimSpace(a.Sh("ls /srv/shop/shared | grep -c ^waits- || true")) }
	failed(deploy(4, "SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC=3"), unit+" had not ended after 3 s, and was stopped")
	a.Sh("sed -i /RELEASE_TIMEOUT/d " + a.path() + "; rm -f /srv/shop/shared/waits-*")
	a.Must("systemctl", "start", "--no-block", a.service())
	a.Wait("the migration", 30*time.Second, func() bool { return waits() == "1" })
	a.Sh("systemctl kill --signal=KILL --kill-whom=main " + a.service())
	a.Wait("the helper's end", 20*time.Second, func() bool { return a.Property(a.service(), "ActiveState") == "failed" })
	if state := a.Property(unit, "ActiveState"); state != "activating" {
		a.t.Errorf("after the helper's end the migration is %s", state)
	}
	done := make(chan machine.Result)
	go func() { done <- a.Run(context.Background(), "app-rollout", "run", "shop") }()
	a.until("waiting for the end of the release command")
	if n := waits(); n != "1" {
		a.t.Errorf("%s migrations run at the same time", n)
	}
	// The first one has gone well when it ends, so that the second one has nothing to do.
	a.Sh("touch /srv/shop/shared/go")
	if r := <-done; r.Code != 0 {
		a.t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	a.Sh("rm /srv/shop/shared/go")
	a.noRelease("a migration that outlived its helper")
}

// noRelease checks that nothing is left of a release command.
func (a *app) noRelease(what string) {
	a.t.Helper()
	if left := a.Sh("systemctl list-units --all --plain --no-legend 'app-rollout-release@*'; ls /run/systemd/system | grep release || true"); left != "" {
		a.t.Errorf("%s: left behind: %s", what, left)
	}
}
