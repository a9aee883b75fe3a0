package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/urfave/cli/v2"

	"app-rollout/rollout-helper/systemd"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "roll out all apps, or the named ones, and follow it",
		ArgsUsage: "[APP…]",
		Action: func(c *cli.Context) error {
			names, err := appNames(c, 0, many)
			if err != nil {
				return err
			}
			m, done, err := machine()
			if err != nil {
				return err
			}
			defer done()
			if err := known(m, names); err != nil {
				return err
			}
			services := []string{"app-rollout.service"}
			if len(names) > 0 {
				services = nil
				for _, name := range names {
					services = append(services, "app-rollout@"+name+".service")
				}
			}
			manager, err := systemd.Dial()
			if err != nil {
				return err
			}
			defer manager.Close()
			ends := make(chan error, len(services))
			for _, service := range services {
				go func() { ends <- follow(c.Context, manager, service) }()
			}
			var failed error
			for range services {
				if err := <-ends; err != nil {
					failed = firstOf(failed, err)
				}
			}
			return failed
		},
	}
}

// followTick is how often a service is looked at that is followed.
const followTick = 100 * time.Millisecond

// follow starts a service and prints what it logs until it has ended. A run
// that is under way is waited for first, so that the one that is followed began
// after it was asked for.
func follow(ctx context.Context, m *systemd.Manager, service string) error {
	for {
		us, err := m.Units(ctx, service)
		if err != nil {
			return err
		}
		if len(us) == 0 || us[0].Job == 0 && us[0].Active != "activating" && us[0].Active != "deactivating" {
			break
		}
		if err := pause(ctx, followTick); err != nil {
			return err
		}
	}
	before, err := invocation(ctx, m, service)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := m.Start(ctx, service)
		ended <- err
	}()
	// The invocation names this run's records, whatever the clock says.
	for {
		now, err := invocation(ctx, m, service)
		if err != nil {
			return err
		}
		if now != before {
			return read(ctx, m, service, now, ended)
		}
		if err := pause(ctx, followTick); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func invocation(ctx context.Context, m *systemd.Manager, service string) (string, error) {
	us, err := m.Units(ctx, service)
	if err != nil || len(us) == 0 {
		return "", err
	}
	return us[0].Invocation, nil
}

// read prints the records of one invocation until its service has ended and
// all of them are printed.
func read(ctx context.Context, m *systemd.Manager, service, id string, ended <-chan error) error {
	match := "_SYSTEMD_INVOCATION_ID=" + id
	follower := exec.Command("journalctl", "--quiet", "--output=cat", "--follow", "--lines=all", match)
	out, err := follower.StdoutPipe()
	if err != nil {
		return err
	}
	if err := follower.Start(); err != nil {
		return fmt.Errorf("the run cannot be followed: %w; see: journalctl -u %s", err, service)
	}
	defer func() {
		_ = follower.Process.Kill()
		_ = follower.Wait()
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	printed, all := 0, -1
	var late <-chan time.Time
	for all < 0 || printed < all {
		select {
		case line, ok := <-lines:
			if !ok {
				return fmt.Errorf("journalctl has ended; see: journalctl -u %s", service)
			}
			fmt.Println(line)
			printed++
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			if all, err = records(match); err != nil {
				return err
			}
			ended, late = nil, time.After(5*time.Second)
		case <-late:
			all = printed
		case <-ctx.Done():
			return fmt.Errorf("no longer followed; the run goes on: journalctl -f -u %s", service)
		}
	}
	us, err := m.Units(ctx, service)
	if err != nil {
		return err
	}
	if len(us) > 0 && us[0].Active == "failed" {
		return errReported
	}
	return nil
}

// records counts the journal's lines of one invocation, all written.
func records(match string) (int, error) {
	if err := exec.Command("journalctl", "--sync").Run(); err != nil {
		fmt.Fprintln(os.Stderr, "app-rollout: the journal could not be synced:", err)
	}
	out, err := exec.Command("journalctl", "--quiet", "--output=cat", match).Output()
	return bytes.Count(out, []byte("\n")), err
}
