//go:build story

package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// finisher is a server that needs three seconds to finish when it is told to stop, and
// writes down that it has finished. systemd, which ends it at once if it goes on alone, has
// so much time for that.
const finisher = `const http = require('node:http'), fs = require('node:fs')
http.createServer((request, response) => response.end('ok\n')).listen(process.env.PORT, '127.0.0.1')
let told = false
process.on('SIGTERM', () => {
  if (told) return
  told = true
  setTimeout(() => { fs.writeFileSync('data/finished', ''); process.exit(0) }, 3000)
})
`

const finisherPackage = `{"name": "finisher", "version": "1.0.0", "private": true, "scripts": {
  "start": "node server.js", "itself": "exec node server.js"
}}
`

// wrapped are the ways to start the finisher, and whether it finishes when systemd
// tells only the main process to stop.
var wrapped = []struct {
	app, exec string
	finishes  bool
}{
	{"node", "/usr/local/bin/node server.js", true},
	{"npm", "/usr/local/bin/npm start", false}, // npm waits for the sh that starts the server
	{"npm-itself", "/usr/local/bin/npm run itself", true},
	{"yarn", "/usr/local/bin/yarn start", false},
	{"yarn-itself", "/usr/local/bin/yarn run itself", false}, // yarn waits for nobody
	{"pnpm", "/usr/local/bin/pnpm start", false},
	{"pnpm-itself", "/usr/local/bin/pnpm run itself", true},
	{"sh", `/bin/sh -c "node server.js; echo it has ended"`, false},
	{"script", "./start", false},
	{"exec", `/bin/sh -c "echo it begins && exec node server.js"`, true},
}

// TestWrappers: whether what is put before a server keeps it from finishing when it is
// told to stop is told after a start, by the run, by check and by status, in one line.
// It is told exactly if it is so. What the line recommends helps.
func TestWrappers(t *testing.T) {
	t.Parallel()
	p := newPerson(t, machine.Options{Layers: append(machine.NodeTools(t), machine.Node(t))})
	lines := func(i int, more string) string {
		return fmt.Sprintf("SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=1\nSYSTEMD_CLUSTER_WATCH_SEC=0\nSYSTEMD_USER=www-data\nSYSTEMD_EXEC_START='%s'\nSYSTEMD_READ_WRITE_PATHS=./data\nPORT=%d\n%s",
			wrapped[i].exec, 8100+i, more)
	}
	var all []string
	for i, w := range wrapped {
		dir := "/srv/" + w.app
		p.Write(dir+"/server.js", finisher, 0o644)
		p.Write(dir+"/package.json", finisherPackage, 0o644)
		p.Write(dir+"/start", "#!/bin/sh\nnode server.js\n", 0o755)
		p.Write(dir+"/.env", lines(i, ""), 0o644)
		p.Sh("install -d -o www-data " + dir + "/data; ln -s " + dir + "/.env /etc/app-rollout/" + w.app + ".env")
		all = append(all, w.app)
	}
	// A master tells its own workers.
	p.Write("/etc/app-rollout/prefork.env", "SYSTEMD_EXEC_START='/usr/bin/gunicorn --chdir /opt/apps -b 127.0.0.1:8200 -w 2 wsgi:app'\nPORT=8200\nSYSTEMD_CLUSTER_WATCH_SEC=0\n", 0o644)

	var helped []string
	ran := p.types("app-rollout run", 0)
	told := p.told(ran)
	finished := p.stop(all)
	for _, w := range wrapped {
		if got := slices.Contains(finished, w.app); got != w.finishes {
			t.Errorf("%s: finished: %v, want %v", w.app, got, w.finishes)
		}
		if got := slices.Contains(told, w.app); got == slices.Contains(finished, w.app) {
			t.Errorf("%s: told: %v, though it finished: %v", w.app, got, slices.Contains(finished, w.app))
		}
		if !w.finishes {
			helped = append(helped, w.app)
		}
	}
	if slices.Contains(told, "prefork") {
		t.Error("a pre-fork server is warned of")
	}

	for i, w := range wrapped {
		if !w.finishes {
			p.Write("/srv/"+w.app+"/.env", lines(i, "SYSTEMD_KILL_MODE=control-group\n"), 0o644)
		}
	}
	if told := p.told(p.types("app-rollout run "+strings.Join(helped, " "), 0)); len(told) > 0 {
		t.Errorf("as advised, it is told again of %q", told)
	}
	if finished := p.stop(helped); !slices.Equal(finished, helped) {
		t.Errorf("as advised, %q finished, of %q", finished, helped)
	}
}

// told are the apps of which what a run has printed, status and check say that a
// wrapper keeps them from finishing: all three the same, once each.
func (p *person) told(ran string) (apps []string) {
	p.t.Helper()
	const line, remedy = "before it can finish: SIGTERM reaches ", "SYSTEMD_KILL_MODE=control-group"
	var report struct {
		Apps []struct {
			App     string
			Wrapper *struct{ Text, Remedy string }
		}
	}
	if err := json.Unmarshal([]byte(p.types("app-rollout status --json", 0)), &report); err != nil {
		p.t.Fatal(err)
	}
	checked := p.types("app-rollout check", 0)
	for _, a := range report.Apps {
		said := 0
		for l := range strings.Lines(ran + checked) {
			if strings.Contains(l, line) && strings.Contains(l, remedy) && (strings.HasPrefix(l, a.App+": ") || strings.HasPrefix(l, "warning: /srv/"+a.App+"/.env: ")) {
				said++
			}
		}
		if a.Wrapper == nil {
			if said > 0 && strings.Contains(ran, a.App+": starting ") {
				p.t.Errorf("%s: status does not say what run or check say", a.App)
			}
			continue
		}
		apps = append(apps, a.App)
		if !strings.Contains(a.Wrapper.Text, line) || !strings.Contains(a.Wrapper.Remedy, remedy) || said != 2 {
			p.t.Errorf("%s: said by run and check: %d times of 2; status: %+v", a.App, said, a.Wrapper)
		}
	}
	return apps
}

// stop stops apps as a person or a reboot does, and returns those that have finished.
func (p *person) stop(apps []string) (finished []string) {
	p.t.Helper()
	var units, files []string
	for _, name := range apps {
		units, files = append(units, "'"+name+"@*.service'"), append(files, "/srv/"+name+"/data/finished")
	}
	p.Sh("systemctl stop " + strings.Join(units, " "))
	for _, name := range apps {
		if p.Exists("/srv/" + name + "/data/finished") {
			finished = append(finished, name)
		}
	}
	p.Sh("rm -f " + strings.Join(files, " "))
	return finished
}
