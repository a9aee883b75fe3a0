package units

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestAppNames(t *testing.T) {
	l := tree(t, map[string]string{
		"/etc/app-rollout/shop.env":                             "",
		"/etc/app-rollout/a-b_9.env":                            "",
		"/etc/app-rollout/80.env":                               "",
		"/etc/app-rollout/" + strings.Repeat("x", 236) + ".env": "",
		"/etc/app-rollout/" + strings.Repeat("x", 237) + ".env": "",
		"/etc/app-rollout/Shop.env":                             "",
		"/etc/app-rollout/-x.env":                               "",
		"/etc/app-rollout/a@b.env":                              "",
		"/etc/app-rollout/app-rollout-boot.env":                 "",
		"/etc/app-rollout/a\nb.env":                             "",
		"/etc/app-rollout/README":                               "",
		"/etc/app-rollout/off.env.off":                          "",
		"/etc/app-rollout/.hidden.env":                          "",
		"/etc/app-rollout/shop.env~":                            "",
		"/etc/app-rollout/.shop.env.swp":                        "",
		"/etc/app-rollout/shop.env.bak":                         "",
		"/etc/app-rollout/shop.env.dpkg-new":                    "",
	})
	names, problems, err := AppNames(l)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(names, " "), "80 a-b_9 shop "+strings.Repeat("x", 236); got != want {
		t.Errorf("apps are %s, want %s", got, want)
	}
	var refused []string
	for _, p := range problems {
		refused = append(refused, p.Path)
		if strings.Contains(p.Error(), "\n") {
			t.Errorf("%q has two lines", p)
		}
	}
	want := []string{"/etc/app-rollout/-x.env", "/etc/app-rollout/README", "/etc/app-rollout/Shop.env",
		`"/etc/app-rollout/` + `a\nb.env"`, "/etc/app-rollout/a@b.env", "/etc/app-rollout/app-rollout-boot.env",
		"/etc/app-rollout/" + strings.Repeat("x", 237) + ".env"}
	want[3] = `/etc/app-rollout/"a\nb.env"`
	if strings.Join(refused, "\n") != strings.Join(want, "\n") {
		t.Errorf("refused are\n%s\nwant\n%s", strings.Join(refused, "\n"), strings.Join(want, "\n"))
	}
	if names, problems, err := AppNames(Layout{Root: t.TempDir()}); len(names) != 0 || len(problems) != 0 || err != nil {
		t.Errorf("without a directory: %v %v %v", names, problems, err)
	}
}

func TestTooManyApps(t *testing.T) {
	l := tree(t, map[string]string{"/etc/app-rollout/.keep": ""})
	for i := range maxApps + 5 {
		if err := os.WriteFile(l.Path(fmt.Sprintf("%s/a%05d.env", EtcDir, i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, problems, err := AppNames(l)
	if err != nil || len(names) != maxApps || len(problems) != 1 || !strings.Contains(problems[0].Text, "more than 4096 apps; those from a04096 on") {
		t.Errorf("%d names, %v, %v", len(names), problems, err)
	}
	for i := range 5 { // they are not needed
		if err := os.Remove(l.Path(fmt.Sprintf("%s/a%05d.env", EtcDir, i))); err != nil {
			t.Fatal(err)
		}
	}
	if names, problems, err := AppNames(l); err != nil || len(names) != maxApps || len(problems) != 0 {
		t.Errorf("afterwards: %d names, %v, %v", len(names), problems, err)
	}
}

func TestParseSourcePath(t *testing.T) {
	for source, want := range map[string]int{
		SourcePath("shop", 3):                                 3,
		SourcePath("shop", 12):                                12,
		SourcePath("blog", 3):                                 0,
		FirstGeneration(GeneratorDir, "shop") + "/" + EnvFile: 0,
		"/var/lib/app-rollout/shop/generations/03/env":        0,
		"": 0,
	} {
		if got, ok := ParseSourcePath("shop", source); got != want || ok != (want > 0) {
			t.Errorf("%q: %d, %v", source, got, ok)
		}
	}
}
