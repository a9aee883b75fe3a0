//go:build story

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app-rollout/test/machine"
)

// webHook writes what is posted to it into a file, one line each.
const webHook = `import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        with open('/run/posted', 'ab') as f:
            f.write(body + b'\n')
        self.send_response(204)
        self.end_headers()

http.server.ThreadingHTTPServer(('127.0.0.1', 9000), Handler).serve_forever()
`

// posted are the apps that the web hook was told of since it was last asked, each with the
// result, in the order of their names. It waits until so many were posted and nothing that
// posts is under way.
func (a *app) posted(n int) string {
	a.t.Helper()
	script := fmt.Sprintf(`[ "$(cat /run/posted | wc -l)" -ge %d ] && [ -z "$(systemctl list-units --no-legend --plain --state=activating 'app-rollout*' 'deploy-*')" ]`, n)
	a.Wait(fmt.Sprint(n, " posts"), 30*time.Second, func() bool { return a.Run(a.t.Context(), "sh", "-c", script).Code == 0 })
	var all []string
	for line := range strings.Lines(a.Sh("cat /run/posted; rm /run/posted")) {
		var record struct {
			App     string `json:"APP_ROLLOUT_APP"`
			Result  string `json:"APP_ROLLOUT_RESULT"`
			Message string
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil || record.Message == "" {
			a.t.Errorf("%q is posted: %v", line, err)
		}
		all = append(all, strings.TrimSpace(record.App+" "+record.Result))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestNotify follows the guide. Then each app that fails is posted once, whichever way the
// rollout was started; and a helper that was killed is posted too.
func TestNotify(t *testing.T) {
	t.Parallel()
	shop := newShop(t, machine.Options{Files: map[string]string{"/root/hook.py": webHook}})
	guide, err := os.ReadFile(filepath.Join(machine.Root(), "packaging/guides/notify.md"))
	if err != nil {
		t.Fatal(err)
	}
	shop.Write("/usr/local/bin/curl", curl, 0o755)
	shop.Write("/etc/systemd/system/hook.service", "[Service]\nType=exec\nExecStart=/usr/bin/python3 /root/hook.py\n[Install]\nWantedBy=sysinit.target\n", 0o644)
	shop.follows(string(guide), func() {})
	shop.Sh("systemctl enable --quiet --now hook")
	want := func(what, posts string) {
		t.Helper()
		if got := shop.posted(strings.Count(posts, ",") + 1); got != posts {
			t.Errorf("%s: posted: %q, want %q", what, got, posts)
		}
	}
	const bad = "EXIT_AT_START=3"
	watch := "SYSTEMD_CLUSTER_WATCH_SEC=0"
	shop.deploy(watch, "GENERATION=g1")
	want("a deploy", "shop ready")
	shop.deploy(watch, "GENERATION=g2")
	want("a second deploy", "shop ready")
	shop.fails("a bad release", "exited with status 3", bad)
	want("a bad release", "shop failed")

	shop.write("PORT=nine")
	if r := shop.run(); r.Code != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	want("a bad .env", "shop failed")
	shop.write(bad)

	// Of three apps two fail, one of which has two mistakes in its .env.
	blog, wiki := shop.other(t, "blog"), shop.other(t, "wiki")
	blog.write(watch, "PORT=nine", "SYSTEMD_CLUSTER_NODES=none")
	wiki.write(watch, "PORT=8082")
	if r := run(shop); r.Code != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Out, r.Err)
	}
	want("a run for all", "blog failed, shop failed, wiki ready")
	shop.Sh("rm " + blog.path() + " " + wiki.path() + "; app-rollout run wiki")
	shop.Wait("the run", 20*time.Second, func() bool { return shop.Property(wiki.service(), "ActiveState") == "inactive" })

	// What lies below the app is broken, so that going back and restarting fail too.
	shop.Sh("rm -f /run/posted; chmod -x /opt/apps/server")
	for _, command := range []string{"restart", "rollback"} {
		if r := shop.Run(t.Context(), "app-rollout", command, "shop"); r.Code != 1 {
			t.Errorf("%s: status %d: %s%s", command, r.Code, r.Out, r.Err)
		}
		want("a "+command, "shop failed")
	}
	shop.Sh("chmod +x /opt/apps/server")

	// A helper is killed when one app is done and another one is not.
	shop.write("SYSTEMD_CLUSTER_WATCH_SEC=60", "GENERATION=g3")
	wiki.write(watch, "PORT=8082", "NEW=1")
	shop.Must("systemctl", "start", "--no-block", "app-rollout.service")
	shop.logged("wiki: done in", "-b", "-u", "app-rollout.service")
	shop.untilOf("app-rollout.service", "watching")
	shop.Sh("systemctl kill --signal=KILL --kill-whom=main app-rollout.service")
	want("a helper that was killed", "failed, wiki ready")

	shop.write(bad, "NEW=1")
	shop.Reboot()
	shop.boot("failed")
	want("a boot", "shop failed")
}
