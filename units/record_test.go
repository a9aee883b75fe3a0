package units

import "testing"

// The receipt for a person names each step, and of the machine's counters only
// what grew.
func TestRecord(t *testing.T) {
	for _, c := range []struct {
		record            Record
		connections, took string
	}{
		{Record{}, "0 connections drained, 0 cut", ""},
		{Record{Drained: 3, Cut: 1, Migrated: 5, Steps: []Step{{"hold", 1.6}, {"ready", 1020.2}}},
			"3 connections drained, 1 cut, 5 migrated (of the whole machine)", "hold 2, ready 1020 ms"},
		{Record{MigrateFailed: 2, ListenDrops: 4, ListenOverflow: 4, Steps: []Step{{"drain", 0.1}}},
			"0 connections drained, 0 cut, 2 not migrated, 4 dropped (of the whole machine)", "drain 0 ms"},
	} {
		if got := c.record.Connections(); got != c.connections {
			t.Errorf("%q, want %q", got, c.connections)
		}
		if got := c.record.Took(); got != c.took {
			t.Errorf("%q, want %q", got, c.took)
		}
	}
}
