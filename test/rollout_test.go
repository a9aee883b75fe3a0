//go:build story

package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// transcript is what a run of shop prints, by the README.
func transcript(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(machine.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(string(readme)) {
		if text, ok := strings.CutPrefix(b.text, "# app-rollout run shop\n"); ok {
			return strings.TrimSpace(text)
		}
	}
	t.Fatal("the README shows no run")
	return ""
}

// timeless replaces how long things took.
func timeless(said string) string {
	return regexp.MustCompile(`[0-9.]+( s\b| ms\b|, )`).ReplaceAllString(said, "…$1")
}

// TestWholePath does what the first screen of the README shows, and more: install, one
// .env, run, three rollouts under load, a reboot.
func TestWholePath(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		shop := newShop(t, on)
		shop.write("GENERATION=g1")
		shop.Must("systemctl", "start", "app-rollout.service")
		shop.want("shop@1 shop@2")
		if said, promised := shop.rollOut(), transcript(t); timeless(said) != timeless(promised) {
			t.Errorf("the README shows\n%s\nbut it is\n%s", promised, said)
		}
		shop.want("shop@3 shop@4")

		client := shop.clients(16, 0)
		shop.more(client, 100)
		for i, units := range []string{"shop@5 shop@6", "shop@7 shop@8", "shop@10 shop@9"} { // in systemctl's order
			shop.write("GENERATION=g" + string(rune('2'+i)))
			shop.Must("systemctl", "start", "app-rollout.service")
			shop.want(units)
		}
		nothingLost(t, client.Stop())
		t.Log(shop.Must("app-rollout", "status"))
		t.Log(shop.Must("app-rollout", "history", "shop"))

		shop.Reboot()
		shop.want("shop@1 shop@2")
		shop.booted()
		shop.want("shop@1 shop@2")
		t.Log(shop.Must("app-rollout", "status"))
	})
}
