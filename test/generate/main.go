// Command generate makes the BPF objects, and the Go code that embeds them, from
// their C (go generate). It uses the clang of Debian 12 on every machine: another
// clang makes other bytes of the same C, which could not be compared with what is
// committed. On a machine with another clang, or with none, it runs the one of a
// throw-away Debian 12; that takes root and mmdebstrap.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"app-rollout/test/machine"
)

const (
	// version is what Debian 12's tools say of themselves.
	version = "version 14.0.6"
	// header is a file of the package libbpf-dev.
	header = "/usr/include/bpf/bpf_helpers.h"
)

// packages are what the throw-away Debian needs.
var packages = []string{"clang-14", "llvm-14", "libbpf-dev", "linux-libc-dev"}

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate() error {
	bin, include := "", multiarch("/")
	if !onHost() {
		tree, err := machine.Tree("bookworm", packages, "", func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
		if err != nil {
			return err
		}
		if bin, err = wrappers(tree); err != nil {
			return err
		}
		defer os.RemoveAll(bin)
		include = multiarch(tree)
	}
	cmd := exec.Command("go", "generate", "./...")
	cmd.Dir = machine.Root()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"BPF2GO_CC="+filepath.Join(bin, "clang"), "BPF2GO_STRIP="+filepath.Join(bin, "llvm-strip"),
		// <linux/bpf.h> includes <asm/types.h>.
		"BPF2GO_CFLAGS=-idirafter "+include)
	return cmd.Run()
}

// onHost says whether this machine has the tools as Debian 12 has them.
func onHost() bool {
	for _, tool := range []string{"clang", "llvm-strip"} {
		out, err := exec.Command(tool, "--version").Output()
		if err != nil || !bytes.Contains(out, []byte(version)) {
			return false
		}
	}
	_, err := os.Stat(header)
	return err == nil
}

// multiarch is the directory of a Debian's architecture's own headers.
func multiarch(root string) string {
	found, _ := filepath.Glob(filepath.Join(root, "/usr/include/*-linux-*/asm"))
	if len(found) == 0 {
		return ""
	}
	return strings.TrimPrefix(filepath.Dir(found[0]), strings.TrimSuffix(root, "/"))
}

// wrappers makes a directory of programs that run the tools of the Debian in tree,
// which sees the repository where it is here.
func wrappers(tree string) (string, error) {
	repository := machine.Root()
	if err := os.MkdirAll(filepath.Join(tree, repository), 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "generate")
	if err != nil {
		return "", err
	}
	for _, tool := range []string{"clang", "llvm-strip"} {
		// The mount goes with its namespace. The working directory is as here: by
		// paths from it clang finds the lines of the source that it puts into the
		// object.
		script := fmt.Sprintf(`#!/bin/sh
[ "$MOUNTED" ] || MOUNTED=1 exec unshare --mount "$0" "$@"
mount --bind %[1]q %[2]q%[1]q
exec chroot %[2]q env --chdir="$PWD" %[3]s-14 "$@"
`, repository, tree, tool)
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
			return "", err
		}
	}
	return dir, nil
}
