//go:build story

package test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"app-rollout/test/advice"
	"app-rollout/test/machine"
)

// TestAdvice follows what the messages recommend to type: it is recommended when
// something is wrong, it can be typed as it stands, and afterwards the app is well and
// the advice is not given again.
func TestAdvice(t *testing.T) {
	t.Parallel()
	p := newPerson(t, machine.Options{Packages: []string{"acl", "strace"}, Files: map[string]string{
		"/root/good.env": env("SYSTEMD_CLUSTER_WATCH_SEC=0"),
		"/root/lease.py": lease,
		"/root/editor":   "#!/bin/sh\nprintf '[Service]\\nNice=5\\n' >$1\n",
	}})
	p.Sh("chmod +x /root/editor")
	p.types(advisedVariables+"rm -rf /etc/app-rollout/* /srv/shop; mkdir /srv/shop; cp /root/good.env $env; ln -s $env $link; app-rollout run shop", 0)
	for _, c := range advice.Commands {
		t.Run(c.Advice, func(t *testing.T) {
			p := &person{app: p.other(t, "shop")}
			p.Sh("systemctl stop 'blog@*.service' squatter.service 2>/dev/null || :")
			p.types(advisedVariables+forgetBlog+"rm -rf /etc/app-rollout/* /srv/shop; mkdir /srv/shop; cp /root/good.env $env; ln -s $env $link", 0)
			p.tries(c)
		})
	}
}

// advisedVariables begin each script: where the things of the app lie.
const advisedVariables = "set -e; env=/srv/shop/.env; link=/etc/app-rollout/shop.env; store=/var/lib/app-rollout/shop; "

// forgetBlog removes what another advice has left of the app blog.
const forgetBlog = "rm -rf /var/lib/app-rollout/blog /run/app-rollout/blog /srv/blog /etc/systemd/system/blog.service; "

// tries follows one advice.
func (p *person) tries(c advice.Command) {
	p.t.Helper()
	if c.Before != "" {
		p.types(advisedVariables+c.Before, 0)
	}
	ask := c.Ask
	if ask == "" {
		ask = "app-rollout check shop"
	}
	pattern := regexp.MustCompile(`(?m)(?:^|[;:] | {2})(` + strings.ReplaceAll(regexp.QuoteMeta(c.Advice), "…", `('[^'\n]*'|[^\s;]+(?: run [\w-]+)?|[^;\n]+?)`) + `)(?:;|$)`)
	said := p.answer(ask)
	given := pattern.FindStringSubmatch(said)
	if given == nil {
		p.t.Fatalf("%s does not recommend it:\n%s", ask, said)
	}
	do := c.Do
	if do == "" {
		do = given[1]
		if _, after, found := strings.Cut(do, ": "); found {
			do = after
		}
	}
	for i, word := range given[2:] {
		do = strings.ReplaceAll(do, fmt.Sprintf("$%d", i+1), word)
	}
	p.types(advisedVariables+do, 0)
	then := c.Then
	if then == "" {
		then = "app-rollout run shop"
	}
	if !c.Stays {
		if said := p.answer(ask); pattern.MatchString(said) {
			p.t.Errorf("after it was followed, %s recommends it again:\n%s", ask, said)
		}
	}
	p.types(advisedVariables+then, 0)
}

// answer types a command that may fail.
func (p *person) answer(line string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := p.Run(ctx, "sh", "-c", line)
	p.t.Logf("# %s\n%s\n%s", line, r.Out, r.Err)
	return r.Out + "\n" + r.Err
}

// lease holds a lease on a file, and does not give it up.
const lease = `import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
time.sleep(1000)
`
