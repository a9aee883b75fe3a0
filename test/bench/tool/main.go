// Command tool is what the benchmark needs inside a machine.
//
//	tool nothing            does nothing: what running any static Go program costs
//	tool time N COMMAND…    runs a command N times, with a new empty directory as
//	                        its last argument, and prints each time's wall and CPU
//	                        milliseconds and exit status, a line each
//	tool apps N new         makes N apps in /etc/app-rollout that were never rolled out
//	tool apps N recorded    the same, and records a generation of each as rolled out
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"app-rollout/units"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return nil // nothing
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if args[0] == "time" {
		return times(n, args[2:])
	}
	return apps(n, args[2] == "recorded")
}

func times(n int, command []string) error {
	for range n {
		dir, err := os.MkdirTemp("", "out")
		if err != nil {
			return err
		}
		cmd := exec.Command(command[0], append(command[1:], dir)...)
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(began)
		if cmd.ProcessState == nil {
			return fmt.Errorf("%v: %w: %.2000s", command, err, out)
		}
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		fmt.Println(took.Seconds()*1000, cpu.Seconds()*1000, cmd.ProcessState.ExitCode())
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func apps(n int, recorded bool) error {
	var l units.Layout
	for i := range n {
		app := fmt.Sprintf("app%05d", i)
		env := fmt.Sprintf("SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=2\nSYSTEMD_EXEC_START=/opt/apps/server\nPORT=%d\nDATABASE_URL=\"postgres://db/%s\"\nLOG_LEVEL=info\n", 10000+i, app)
		if err := os.WriteFile(units.EtcDir+"/"+app+".env", []byte(env), 0o644); err != nil {
			return err
		}
		if !recorded {
			continue
		}
		spec, err := l.Read(app)
		if err != nil {
			return err
		}
		store := l.Store(app)
		g, err := store.Freeze(spec, time.Now())
		if err != nil {
			return err
		}
		if err := store.Commit(g); err != nil {
			return err
		}
	}
	return nil
}
