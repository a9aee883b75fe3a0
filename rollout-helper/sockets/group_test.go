package sockets

import (
	"net/netip"
	"testing"
)

func TestOverlaps(t *testing.T) {
	group := func(addr string) Group { return Group{Addr: netip.MustParseAddrPort(addr)} }
	only6, tied := group("[::]:80"), group("0.0.0.0:80")
	only6.V6Only, tied.Device = true, 2
	other := tied
	other.Device = 3
	for _, test := range []struct {
		a, b Group
		want bool
	}{
		{group("127.0.0.1:80"), group("127.0.0.1:80"), true},
		{group("127.0.0.1:80"), group("127.0.0.1:81"), false},
		{group("127.0.0.1:80"), group("10.0.0.5:80"), false},
		{group("127.0.0.1:80"), group("0.0.0.0:80"), true},
		{group("127.0.0.1:80"), group("[::]:80"), true},
		{group("127.0.0.1:80"), group("[::ffff:127.0.0.1]:80"), true},
		{group("127.0.0.1:80"), group("[::1]:80"), false},
		{group("127.0.0.1:80"), only6, false},
		{group("[::1]:80"), only6, true},
		{group("[::1]:80"), group("[::]:80"), true},
		{group("0.0.0.0:80"), group("[::1]:80"), false},
		{tied, group("127.0.0.1:80"), true},
		{tied, other, false},
	} {
		if test.a.Overlaps(test.b) != test.want || test.b.Overlaps(test.a) != test.want {
			t.Errorf("%v and %v: not %v, in one order or the other", test.a, test.b, test.want)
		}
	}
}
