package sockets

import (
	"strings"
	"testing"
)

const sigterm = 15

func TestWrapper(t *testing.T) {
	const takes = 1 << (sigterm - 1)
	for _, c := range []struct {
		name string
		all  []process
		want string // WRAPPER before SERVER, with * for the main process
	}{
		{"the server alone", []process{{pid: 10, name: "node", listens: true}}, ""},
		{"a shell", []process{{pid: 10, name: "sh"}, {pid: 11, parent: 10, name: "node", listens: true}}, "*sh before node"},
		{"a shell below one that hands it on", []process{{pid: 10, name: "npm", takes: takes}, {pid: 11, parent: 10, name: "sh"}, {pid: 12, parent: 11, name: "node", listens: true}}, "sh before node"},
		{"npm and a shell that executes the server", []process{{pid: 10, name: "npm", takes: takes}, {pid: 12, parent: 10, name: "node", listens: true}}, ""},
		{"one that does not wait", []process{{pid: 10, name: "node", takes: takes, hasty: true}, {pid: 12, parent: 10, name: "node", listens: true}}, "*node before node"},
		{"another signal is taken", []process{{pid: 10, name: "x", takes: 1 << 1}, {pid: 12, parent: 10, name: "node", listens: true}}, "*x before node"},
		{"pre-fork", []process{{pid: 10, name: "gunicorn", takes: takes, listens: true}, {pid: 12, parent: 10, name: "gunicorn", listens: true}}, ""},
		{"workers with listeners of their own", []process{{pid: 10, name: "haproxy", takes: takes}, {pid: 12, parent: 10, name: "haproxy", listens: true}}, ""},
		{"a server with other children", []process{{pid: 10, name: "node", listens: true}, {pid: 12, parent: 10, name: "esbuild"}}, ""},
		{"pre-fork below a shell", []process{{pid: 10, name: "bash"}, {pid: 11, parent: 10, name: "puma", takes: takes, listens: true}, {pid: 12, parent: 11, name: "puma", listens: true}}, "*bash before puma"},
		{"the parent has ended", []process{{pid: 10, name: "sh"}, {pid: 12, parent: 1, name: "node", listens: true}}, "*sh before node"},
		{"nobody listens", []process{{pid: 10, name: "sh"}, {pid: 12, parent: 10, name: "node"}}, ""},
		{"the main process has ended", []process{{pid: 12, parent: 10, name: "node", listens: true}}, ""},
	} {
		all := make(map[int]process)
		for _, p := range c.all {
			all[p.pid] = p
		}
		got := ""
		if w := wrapper(all, 10, sigterm); w != nil {
			got = w.Name + " before " + w.Server
			if w.Main {
				got = "*" + got
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	// SIGTERM is signal 15: the bit 0x4000.
	const text = "Name:\tnpm start\nUmask:\t0027\nState:\tS (sleeping)\nTgid:\t12\nPid:\t12\nPPid:\t10\n" +
		"SigBlk:\t0000000000000000\nSigIgn:\t0000000001001000\nSigCgt:\t0000000108004602\n"
	p, err := parseStatus(text)
	if err != nil || p.pid != 12 || p.parent != 10 || p.name != "npm start" || p.takes&0x4000 == 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err = parseStatus(strings.Replace(text, "4602", "0602", 1)); err != nil || p.takes&0x4000 != 0 {
		t.Errorf("ends of the signal: got %+v, %v", p, err)
	}
	blocked := strings.Replace(strings.Replace(text, "4602", "0602", 1), "SigBlk:\t0000000000000000", "SigBlk:\tfffffffe7ffbfeff", 1)
	if p, err = parseStatus(blocked); err != nil || p.takes&0x4000 == 0 {
		t.Errorf("waits for the signal: got %+v, %v", p, err)
	}
	if _, err := parseStatus("SigCgt:\tx\n"); err == nil {
		t.Error("no error")
	}
}

func TestHasty(t *testing.T) {
	for command, want := range map[string]bool{
		"/usr/bin/node\x00/usr/bin/yarn\x00start\x00":                        true,
		"node\x00/usr/share/nodejs/yarn/bin/yarn.js\x00start\x00":            true,
		"node\x00/usr/local/lib/node_modules/pnpm/bin/pnpm.cjs\x00start\x00": false,
		"npm start\x00": false,
		"node\x00/srv/shop/server.js\x00yarn\x00": false,
		"": false,
	} {
		if hasty([]byte(command)) != want {
			t.Errorf("%q: %v", command, !want)
		}
	}
}
