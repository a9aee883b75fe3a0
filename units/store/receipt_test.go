package store

import "testing"

// The receipt for a person names each step, and of the machine's counters only
// what grew.
func TestReceipt(t *testing.T) {
	for _, c := range []struct {
		receipt           Receipt
		connections, took string
	}{
		{Receipt{}, "0 connections drained, 0 cut", ""},
		{Receipt{Drained: 3, Cut: 1, Migrated: 5, Steps: []Step{{"hold", 1.6}, {"ready", 1020.2}}},
			"3 connections drained, 1 cut, 5 migrated (of the whole machine)", "hold 2, ready 1020 ms"},
		{Receipt{MigrateFailed: 2, ListenDrops: 4, ListenOverflow: 4, Steps: []Step{{"drain", 0.1}}},
			"0 connections drained, 0 cut, 2 not migrated, 4 dropped (of the whole machine)", "drain 0 ms"},
	} {
		if got := c.receipt.Connections(); got != c.connections {
			t.Errorf("%q, want %q", got, c.connections)
		}
		if got := c.receipt.Took(); got != c.took {
			t.Errorf("%q, want %q", got, c.took)
		}
	}
}
