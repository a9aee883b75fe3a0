package store

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// The receipt for a person names each step, and of the machine's counters only
// what grew. Of an app without a TCP listener it tells nothing of connections, in JSON
// neither.
func TestReceipt(t *testing.T) {
	for _, c := range []struct {
		receipt    Receipt
		told, took string
	}{
		{Receipt{}, "", ""},
		{Receipt{Traffic: "steered", Counts: &Counts{}}, ", traffic steered, 0 connections drained, 0 cut", ""},
		{Receipt{Traffic: "plain", TrafficReason: "no BPF", Counts: &Counts{Drained: 3, Cut: 1, Migrated: 5}, Steps: []Step{{"hold", 1.6}, {"ready", 1020.2}}},
			", traffic plain (no BPF), 3 connections drained, 1 cut, 5 migrated (of the whole machine)", "hold 2, ready 1020 ms"},
		{Receipt{Traffic: "steered", Counts: &Counts{Drained: 9, ToldToClose: 8, Untold: 2}}, ", traffic steered, 9 connections drained, 8 told to close, 2 answers could not tell, 0 cut", ""},
		{Receipt{Traffic: "steered", Counts: &Counts{Closed: 1, ToldToClose: 1}}, ", traffic steered, 0 connections drained, 1 told to close, 1 closed at rest, 0 cut", ""},
		{Receipt{Traffic: "steered", Counts: &Counts{Closed: 4, Cut: 3, Streams: 2}}, ", traffic steered, 0 connections drained, 4 closed at rest, 3 cut (streams: 2)", ""},
		{Receipt{Traffic: "steered", Counts: &Counts{MigrateFailed: 2, ListenDrops: 4, ListenOverflow: 4}, Steps: []Step{{"drain", 0.1}}},
			", traffic steered, 0 connections drained, 0 cut, 2 not migrated, 4 dropped (of the whole machine)", "drain 0 ms"},
	} {
		if got := c.receipt.Told(); got != c.told {
			t.Errorf("%q, want %q", got, c.told)
		}
		if got := c.receipt.Took(); got != c.took {
			t.Errorf("%q, want %q", got, c.took)
		}
	}
	for want, r := range map[string]Receipt{
		`"result":"ready"}`: {Result: "ready"},
		`"result":"ready","traffic":"plain","drained":0,"closed":0,"cut":2,"streams":0,"told":0,"untold":0,"migrated":0,"migrate_failed":0,"listen_drops":0,"listen_overflows":0}`: {Result: "ready", Traffic: "plain", Counts: &Counts{Cut: 2}},
	} {
		text, err := json.Marshal(r)
		if err != nil || !strings.HasSuffix(string(text), want) {
			t.Errorf("%s, %v, want at its end %s", text, err, want)
		}
		var back Receipt
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%s is read as %+v, %v", text, back, err)
		}
	}
}
