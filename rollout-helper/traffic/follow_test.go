package traffic

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/sockets/socktest"
	"app-rollout/rollout-helper/systemd"
)

// openSockets counts the sockets that this process has open.
func openSockets(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(files, func(f string) bool {
		to, _ := os.Readlink(f)
		return !strings.HasPrefix(to, "socket:")
	}))
}

// TestFollow: the connections of an instance are counted by themselves, and no more once it
// is followed; those of the others go on. All are settled at the end, also when the steering
// has ended meanwhile, and nothing is left open.
func TestFollow(t *testing.T) {
	if !socktest.Isolated(t) {
		return
	}
	var us []systemd.Unit
	var clients []*socktest.Client
	for name, address := range map[string]string{"a": address, "b": "127.0.0.1:9090"} {
		cgroup := socktest.Cgroup(t, name)
		socktest.Start(t, cgroup, socktest.Config{Name: name, Listen: []socktest.Listen{{Network: "tcp4", Address: address}}})
		client, err := socktest.Connect(address)
		if err == nil {
			err = client.Say("who")
		}
		if err == nil {
			_, err = client.Hear()
		}
		if err != nil {
			t.Fatal(err)
		}
		us, clients = append(us, systemd.Unit{Name: name, ControlGroup: cgroup}), append(clients, client)
	}
	k, before := New(), openSockets(t)
	becomes := func(what string, all sockets.Work, each ...sockets.Work) {
		t.Helper()
		var got []sockets.Work
		var sum sockets.Work
		socktest.Eventually(t, what, func() (holds bool) {
			var err error
			if sum, got, err = k.Pending("shop", look(t), us); err != nil {
				t.Fatal(err)
			}
			sum.Recent = 0
			for i := range got {
				got[i].Recent = 0
			}
			return sum == all && slices.Equal(got, each)
		})
	}
	rests := sockets.Work{Idle: 1}
	becomes("both rest", sockets.Work{Idle: 2}, rests, rests)
	k.Follow("shop", us[0].Name)
	becomes("one is followed", rests, sockets.Work{}, rests)
	clients[0].Close()
	clients[1].Close()
	becomes("the other has ended", sockets.Work{Ended: 1}, sockets.Work{}, sockets.Work{})
	us = us[1:]
	becomes("the same is watched", sockets.Work{Ended: 1}, sockets.Work{})
	k.Follow("shop")
	if err := k.Release("shop", nil); err != nil {
		t.Error(err)
	}
	if got, followed := k.Settle("shop"); !followed || got != (sockets.Work{Idle: 1, Ended: 1}) {
		t.Errorf("settled as %+v, %v", got, followed)
	}
	if _, followed := k.Settle("shop"); followed {
		t.Error("settled twice")
	}
	socktest.Eventually(t, "nothing is left open", func() bool { return openSockets(t) <= before })
}
