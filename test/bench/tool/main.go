// Command tool is what the benchmark needs inside a machine.
//
//	tool nothing            does nothing: what running any static Go program costs
//	tool time N COMMAND… [-- COMMAND…]…
//	                        runs commands in turn, N times, each with a new empty
//	                        directory as its last argument, and prints a line each
//	                        time: the command's number, wall and CPU milliseconds,
//	                        exit status, and how many regular files it has written
//	tool apps N new         makes N apps in /etc/app-rollout that were never rolled
//	                        out, and as many containers for Quadlet
//	tool apps N recorded    the same, and records a generation of each as rolled out
package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"app-rollout/units"
	"app-rollout/units/store"
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
	if args[0] == "apps" {
		return apps(n, args[2] == "recorded")
	}
	commands := [][]string{nil}
	for _, arg := range args[2:] {
		if arg == "--" {
			commands = append(commands, nil)
			continue
		}
		last := len(commands) - 1
		commands[last] = append(commands[last], arg)
	}
	for range n {
		for i, command := range commands {
			fmt.Print(i, " ")
			if err := measure(command); err != nil {
				return err
			}
		}
	}
	return nil
}

func measure(command []string) error {
	dir, err := os.MkdirTemp("", "out")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(command[0], append(command[1:], dir)...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if cmd.ProcessState == nil {
		return fmt.Errorf("%v: %w: %.2000s", command, err, out)
	}
	files := 0
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files++
		}
		return err
	})
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	fmt.Println(took.Seconds()*1000, cpu.Seconds()*1000, cmd.ProcessState.ExitCode(), files)
	return err
}

func apps(n int, recorded bool) error {
	const containers = "/etc/containers/systemd"
	if err := os.MkdirAll(containers, 0o755); err != nil {
		return err
	}
	var l units.Layout
	for i := range n {
		app := fmt.Sprintf("app%05d", i)
		port := 10000 + i
		env := fmt.Sprintf("SYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=2\nSYSTEMD_EXEC_START=/opt/apps/server\nPORT=%d\nDATABASE_URL=\"postgres://db/%s\"\nLOG_LEVEL=info\n", port, app)
		if err := os.WriteFile(units.EnvPath(app), []byte(env), 0o644); err != nil {
			return err
		}
		container := fmt.Sprintf("[Container]\nImage=registry.example/shop:1\nPublishPort=%d:8080\nEnvironment=PORT=8080 \"DATABASE_URL=postgres://db/%s\" LOG_LEVEL=info\n[Service]\nRestart=always\n[Install]\nWantedBy=multi-user.target\n", port, app)
		if err := os.WriteFile(containers+"/"+app+".container", []byte(container), 0o644); err != nil {
			return err
		}
		if !recorded {
			continue
		}
		spec, err := l.Read(app)
		if err != nil {
			return err
		}
		disk := store.Of(l, app)
		g, err := disk.Freeze(spec, time.Now())
		if err != nil {
			return err
		}
		if err := disk.Commit(g); err != nil {
			return err
		}
	}
	return nil
}
