//go:build story

package test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	steps "app-rollout/units/step"
	"app-rollout/units/store"
)

// TestReceipt: the record, the log, history and status tell what a rollout did, whether
// or not it succeeded: how long each step took, and what became of the connections.
func TestReceipt(t *testing.T) {
	t.Parallel()
	shop := newShop(t)
	lines := []string{"SYSTEMD_CLUSTER_DRAIN_SEC=1", "STOP=die"}
	shop.deploy(append(lines, "GENERATION=g1")...)
	request := shop.openRequest()
	said := shop.deploy(append(lines, "GENERATION=g2")...)
	if line := "1 connection(s) of shop@1 shop@2 still wait for an answer after 1 s"; !strings.Contains(said, line) {
		t.Errorf("nothing says %q:\n%s", line, said)
	}
	request.answer()
	if one := request.client.Stop(); one.Answered() != 0 || one.Lost() != 1 {
		t.Errorf("a request that is not answered was to be cut after 1 s: %v", one)
	}
	shop.cutReceipt()
	shop.told(2, "done in [0-9.]+ s, traffic steered, 0 connections drained, 1 cut", "hold start ready shift watch commit drain stop forget")

	// A rollout that failed tells the same.
	shop.fails("never listens", "does not listen", append(lines, "GENERATION=bad", "NO_LISTEN=1", "SYSTEMD_CLUSTER_READY_SEC=5")...)
	shop.told(3, "undone in [0-9.]+ s, traffic steered, 0 connections drained, 0 cut", "hold start ready back stop")

	// A connection that ends in time counts as drained.
	shop.deploy("GENERATION=g3", "STOP=die")
	request = shop.openRequest()
	shop.begins("waiting for 1 connection", "GENERATION=g4", "STOP=die")
	request.answer()
	if one := request.client.Stop(); one.Lost() != 0 {
		t.Errorf("a request that is answered while it is waited for: %v", one)
	}
	shop.Wait("the rollout", 60*time.Second, func() bool { return shop.Property(shop.service(), "ActiveState") == "inactive" })
	if record := shop.receipt("current").Rollout; record.Cut != 0 || record.Drained != 1 {
		t.Errorf("%d drained, %d cut", record.Drained, record.Cut)
	}
}

// cutReceipt checks the record of a rollout of shop that cut one connection.
func (a *app) cutReceipt() {
	a.t.Helper()
	record := a.receipt("current").Rollout
	if record.Cut != 1 || record.Result != "ready" || record.Traffic != "steered" || record.Seconds < 2 {
		a.t.Errorf("the record is %+v", record)
	}
	names := ""
	for _, step := range record.Steps {
		names += step.Name + " "
		if step.Milliseconds <= 0 && step.Name != steps.Forget {
			a.t.Errorf("%s took %v ms", step.Name, step.Milliseconds)
		}
	}
	if names != "hold start ready shift watch commit drain stop forget " {
		a.t.Errorf("the steps are %s", names)
	}
	text := a.Read("/var/lib/app-rollout/shop/current/generation.json")
	for _, field := range []string{`"drained"`, `"closed": 0`, `"cut": 1`, `"streams": 0`, `"migrated"`, `"migrate_failed"`, `"listen_drops"`, `"listen_overflows"`, `"step": "drain"`} {
		if !strings.Contains(text, field) {
			a.t.Errorf("the record has no %s: %s", field, text)
		}
	}
}

// told checks that the log, history and status --json say the same of the newest
// rollout: its sum, and how long each of its steps took.
func (a *app) told(generation int, sum, steps string) {
	a.t.Helper()
	var took []string
	for _, step := range strings.Fields(steps) {
		took = append(took, step+" [0-9]+")
	}
	each := strings.Join(took, ", ") + " ms"
	log := a.journal("APP_ROLLOUT_APP=shop", fmt.Sprintf("APP_ROLLOUT_GENERATION=%d", generation))
	if line := "(?m)^shop: " + sum + ": " + each + "$"; !regexp.MustCompile(line).MatchString(log) {
		a.t.Errorf("the log of generation %d has no line %s:\n%s", generation, line, log)
	}

	record := a.receipt(fmt.Sprint(generation)).Rollout
	history := a.Must("app-rollout", "history", "shop")
	lines := fmt.Sprintf(`(?m)^%d .* %d +%d +%d +%d changed: .*; %s %s$`, generation, record.ToldToClose, record.ByThemselves(), record.Closed, record.Cut,
		regexp.QuoteMeta(strings.TrimPrefix(record.Told(), ", ")), each)
	// Long lines are folded.
	if !regexp.MustCompile(lines).MatchString(regexp.MustCompile(`\n +`).ReplaceAllString(history, " ")) {
		a.t.Errorf("history has no lines %s:\n%s", lines, history)
	}

	var report struct {
		Apps []struct {
			Last struct {
				Generation int
				store.Receipt
			} `json:"last_rollout"`
		}
	}
	text := a.Must("app-rollout", "status", "shop", "--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		a.t.Fatal(err)
	}
	if last := report.Apps[0].Last; last.Generation != generation || !reflect.DeepEqual(&last.Receipt, record) {
		a.t.Errorf("status says %s\nwhere the record is %+v", text, record)
	}
	for _, field := range []string{`"migrated"`, `"migrate_failed"`, `"listen_drops"`, `"listen_overflows"`, `"steps"`} {
		if !strings.Contains(text, field) {
			a.t.Errorf("status has no %s: %s", field, text)
		}
	}
}
