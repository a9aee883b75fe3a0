package sockets

import (
	"net/netip"
	"testing"
)

func TestCgroupMount(t *testing.T) {
	for _, test := range []struct{ name, table, want string }{
		{"cgroup v2", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"},
		{"both", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"a blank in the path", "30 24 0:26 / /my\\040cgroups rw - cgroup2 cgroup2 rw\n", "/my cgroups"},
		{"none", "23 27 0:22 / /sys rw - sysfs sysfs rw\n", ""},
		{"nothing", "", ""},
	} {
		if got := cgroupMount(test.table); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestTCPExt(t *testing.T) {
	values, err := tcpExt("TcpExt: SyncookiesSent ListenDrops\nTcpExt: 3 14\nIpExt: InNoRoutes\nIpExt: 9\n")
	if err != nil || values["ListenDrops"] != 14 || values["SyncookiesSent"] != 3 {
		t.Errorf("got %v, %v", values, err)
	}
	for _, text := range []string{"", "TcpExt: A B\n", "TcpExt: A B\nTcpExt: 1\n"} {
		if _, err := tcpExt(text); err == nil {
			t.Errorf("tcpExt(%q): no error", text)
		}
	}
}

func TestSocketInode(t *testing.T) {
	for target, want := range map[string]uint32{"socket:[1234]": 1234, "pipe:[1]": 0, "/dev/null": 0, "socket:[x]": 0} {
		if got, ok := socketInode(target); got != want || ok != (want != 0) {
			t.Errorf("socketInode(%q) = %d, %v", target, got, ok)
		}
	}
}

func TestGroupString(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, test := range []struct {
		Group
		want string
	}{
		{Group{Addr: at("0.0.0.0:8080")}, "0.0.0.0:8080"},
		{Group{Addr: at("[::]:8080")}, "[::]:8080"},
		{Group{Addr: at("[::]:8080"), V6Only: true}, "[::]:8080 (IPv6 only)"},
		{Group{Addr: at("[::1]:8080"), V6Only: true}, "[::1]:8080"},
		{Group{Addr: at("[fe80::1]:8080"), Device: 2}, "[fe80::1]:8080 (interface 2)"},
	} {
		if got := test.Group.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if (Group{Addr: at("0.0.0.0:80")}) == (Group{Addr: at("[::]:80")}) {
		t.Error("IPv4 and IPv6 are one group")
	}
}

func TestParseRowRefusesShortRows(t *testing.T) {
	for n := range rowSize {
		if _, err := parseRow(make([]byte, n)); err == nil {
			t.Fatalf("a row of %d bytes was taken", n)
		}
	}
	if _, err := parseRow(make([]byte, rowSize)); err != nil {
		t.Fatal(err)
	}
}
