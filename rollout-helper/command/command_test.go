package command

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/rollout-helper/doctor"
	"app-rollout/rollout-helper/screen"
	"app-rollout/units"
	"app-rollout/units/dotenv"
)

func TestMain(m *testing.M) {
	dotenv.ParserMain()
	os.Exit(m.Run())
}

func TestFlagsFirst(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"app-rollout", "app-rollout"},
		{"app-rollout --version", "app-rollout --version"},
		{"app-rollout status shop --json blog", "app-rollout status --json shop blog"},
		{"app-rollout check --json", "app-rollout check --json"},
	} {
		if got := strings.Join(flagsFirst(strings.Fields(test.args)), " "); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Wrong usage is status 2.
func TestUsage(t *testing.T) {
	std := streams{screen.Plain(io.Discard), screen.Plain(io.Discard)}
	for _, args := range []string{"frob", "status --frob", "show", "show a b", "history", "rollback", "run Shop", "run shop/x", "run shop --x", "swap a b", "swap --rollback", "swap --boot --rollback shop", "ports x", "check Shop"} {
		if got := run(t.Context(), "", append([]string{"app-rollout"}, strings.Fields(args)...), std); got != exitUsage {
			t.Errorf("app-rollout %s: status %d", args, got)
		}
	}
}

func TestTarget(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string][2]string{
		"shop":                      {"shop", ""},
		"/etc/app-rollout/shop.env": {"shop", ""},
		"shop.env":                  {"shop", filepath.Join(here, "shop.env")},
		"/srv/shop/current/.env":    {"app", "/srv/shop/current/.env"},
		"./shop":                    {"shop", filepath.Join(here, "shop")},
	} {
		app, file, err := target(arg)
		if app != want[0] || file != want[1] || err != nil {
			t.Errorf("%s: %q %q %v, want %q", arg, app, file, err, want)
		}
	}
}

func TestPrintFindings(t *testing.T) {
	r := doctor.New()
	r.Refuse("shop", &units.Problem{Path: "/etc/app-rollout/shop.env", Line: 3, Text: "PORT must be a number"})
	var out bytes.Buffer
	printFindings(screen.Plain(&out), r)
	if out.String() != "/etc/app-rollout/shop.env:3: PORT must be a number\n" || r.OK {
		t.Errorf("%q", out.String())
	}
}
