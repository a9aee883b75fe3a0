package command

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"app-rollout/rollout-helper/doctor"
	"app-rollout/rollout-helper/journal"
	"app-rollout/rollout-helper/screen"
	"app-rollout/rollout-helper/status"
	"app-rollout/units"
	"app-rollout/units/problem"
	"app-rollout/units/store"
)

// TestScreensFit: what a command prints for a person fits on the terminal, with one
// instance and with many, and whatever went wrong. Elsewhere nothing is cut or folded.
func TestScreensFit(t *testing.T) {
	disk := store.Of(units.Layout{Root: t.TempDir()}, "shop")
	told := `"traffic":"steered","drained":1234,"closed":12345,"cut":123,"migrated":12,"told":1234,"untold":12,"steps":[` + strings.Repeat(`{"step":"watch","ms":120345},`, 9) + `{"step":"stop","ms":2}]`
	record(t, disk, 1, `"rollout":{"result":"ready","seconds":1234.5,`+told+`},"restart":{"result":"ready","seconds":31.2,`+told+`}`)
	record(t, disk, 2, `"rollout":{"result":"failed","seconds":1234.5,`+told+`,"reason":"`+strings.Repeat("it did not end well ", 9)+`","remedy":"`+strings.Repeat("see: journalctl -b -u x; ", 4)+`"}`)
	for _, instances := range []int{0, 1, 8, 64, 256} {
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, uint64(instances)))
			report, findings := someReport(r, instances), doctor.New()
			for range r.IntN(5) {
				p := someProblem(r)
				findings.Findings = append(findings.Findings, doctor.Finding{Level: []string{doctor.Error, doctor.Warning}[r.IntN(2)], App: "shop", Problem: p})
			}
			print := func(s *screen.Screen) {
				printReport(s, report)
				printFindings(s, findings)
				comment(s, "A run of shop would roll out generation 12: start "+strings.Repeat("shop@123 ", instances))
				printLine(s, journal.Line{App: "shop", Text: someProblem(r).Text})
				if err := history(s, disk); err != nil {
					t.Fatal(err)
				}
			}
			var plain bytes.Buffer
			print(screen.Plain(&plain))
			for _, p := range findings.Findings {
				if !strings.Contains(plain.String(), p.String()+"\n") {
					t.Fatalf("elsewhere than on a terminal %q is not one line:\n%s", p, plain.String())
				}
			}
			for _, width := range []int{80, 132, 50} {
				var out bytes.Buffer
				print(screen.Terminal(&out, width))
				for line := range strings.SplitSeq(out.String(), "\n") {
					if screen.Width(line) >= width {
						t.Fatalf("%d instances, seed %d: %d columns on a terminal of %d: %q", instances, seed, screen.Width(line), width, line)
					}
				}
				if width == 80 && seed == 0 {
					t.Logf("\n%s", out.String())
				}
			}
		}
	}
}

// TestHelpFits: so does what --help prints.
func TestHelpFits(t *testing.T) {
	for _, command := range append(newApp("1.0", streams{}).Commands, nil) {
		var out bytes.Buffer
		args := []string{"app-rollout", "--help"}
		if command != nil {
			args = []string{"app-rollout", command.Name, "--help"}
		}
		if code := run(t.Context(), "1.0", args, streams{screen.Plain(&out), screen.Plain(&out)}); code != 0 {
			t.Errorf("%s: %d", args, code)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if screen.Width(line) > helpWidth {
				t.Errorf("%s: %d columns: %s", args, screen.Width(line), line)
			}
		}
	}
}

func someProblem(r *rand.Rand) problem.Problem {
	p := problem.Problem{Path: "/srv/shop/releases/20261201120000/.env", Line: r.IntN(3), Text: strings.Repeat("is not as it should be, ", 1+r.IntN(6)) + "and more"}
	if r.IntN(2) == 0 {
		p.Remedy = "move the .env up, as alice: mv /srv/shop/shared/.env /srv/shop/.env && ln -s /srv/shop/.env /srv/shop/shared/.env"
	}
	return p
}

// someReport is one of two apps, one of which has so many instances.
func someReport(r *rand.Rand, instances int) *status.Report {
	long := strings.Repeat("a-long-name-", 1+r.IntN(4)) + "app"
	a := status.App{
		Name: "shop", State: []string{"up", "degraded", "down", "stopped"}[r.IntN(4)], Mode: 1, Port: 65535, Nodes: instances,
		Generation: &status.Generation{Number: 1000 + r.IntN(1000), Ready: time.Now().Add(-time.Duration(r.IntN(1e6)) * time.Second)},
		Held:       r.IntN(2) == 0,
		Asked:      status.Asked{State: []string{status.Same, status.Pending, status.Rejected, status.Refused, status.Invalid, status.Gone}[r.IntN(6)], Changed: strings.Fields(strings.Repeat("SYSTEMD_CLUSTER_HEALTH_PATH ", r.IntN(9))), Why: []problem.Problem{someProblem(r)}},
	}
	if r.IntN(2) == 0 {
		a.Name = long
	}
	if r.IntN(2) == 0 {
		p := someProblem(r)
		a.Wrapper, a.Shadows = &p, []problem.Problem{someProblem(r)}
		a.UnderWay = &status.UnderWay{Service: "app-rollout@" + a.Name + ".service", Since: time.Now(), Says: a.Name + ": " + someProblem(r).Text}
		a.Last = &status.Rollout{Generation: 12, Receipt: store.Receipt{Result: "failed", Reason: someProblem(r).Text, Remedy: "see: journalctl"}}
	}
	for n := range instances {
		share := 100 / float64(instances)
		a.Instances = append(a.Instances, status.Instance{
			Unit: fmt.Sprintf("%s@%d.service", a.Name, 1+n), Number: 1 + n, Generation: 1000, Active: "activating", Sub: "auto-restart", PID: 4194303,
			Since: time.Now().Add(-time.Duration(r.IntN(1e6)) * time.Second), Restarts: uint32(r.IntN(1e5)), Memory: uint64(r.Int64N(1 << 36)), Listeners: 1, Connections: r.IntN(1e5), Share: &share,
		})
	}
	report := &status.Report{Apps: []status.App{a, {Name: "blog", State: "stopped"}}}
	report.Machine.Problems = []problem.Problem{someProblem(r)}
	report.Machine.PortSharing, report.Machine.PortSharingWhy = "off", someProblem(r).Text
	return report
}
