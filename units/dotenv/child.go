package dotenv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
)

const (
	parserName = "app-rollout-parse"
	parserOK   = "parsed\x00" // what a successful answer begins with

	// parserData bounds the memory that the child may take beyond what the Go
	// runtime has mapped at its start, in bytes.
	parserData = 64 << 20
	parserCPU  = 1               // seconds of CPU time
	parserTime = 5 * time.Second // of wall clock, on a busy machine
)

// parseApart parses text in a child process with limited memory and time: this
// program under another name. If the child fails, only one app is lost.
func parseApart(text []byte) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), parserTime)
	defer cancel()
	child := exec.CommandContext(ctx, "/proc/self/exe")
	child.Args = []string{parserName}
	child.Env = []string{"GOTRACEBACK=none", "GOMAXPROCS=1"}
	child.Dir = "/"
	child.Stdin = bytes.NewReader(text)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	answer, err := child.Output()
	body, ok := bytes.CutPrefix(answer, []byte(parserOK))
	if err != nil || !ok {
		return nil, &problem.Problem{Text: "takes too much time or memory to parse", Remedy: quoteDollars}
	}
	values := make(map[string]string)
	for len(body) > 0 {
		var one []byte
		one, body, _ = bytes.Cut(body, []byte{0})
		name, value, _ := bytes.Cut(one, []byte("="))
		values[string(name)] = string(value)
	}
	return values, nil
}

// ParserMain must be the first call of every main and TestMain. In the child
// process it parses the .env and does not return; elsewhere it does nothing.
func ParserMain() {
	if len(os.Args) != 1 || os.Args[0] != parserName {
		return
	}
	if limit() != nil {
		os.Exit(1)
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, MaxText+1))
	if err != nil || len(text) > MaxText {
		os.Exit(1)
	}
	values, err := parseHere(text)
	if err != nil {
		os.Exit(1)
	}
	out := []byte(parserOK)
	for name, value := range values {
		out = append(out, name...)
		out = append(out, '=')
		out = append(out, value...)
		out = append(out, 0)
		if len(out) > 4*maxSum {
			os.Exit(1)
		}
	}
	if _, err := os.Stdout.Write(out); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// limit bounds this process. RLIMIT_AS does not work for memory, because the Go
// runtime reserves far more than it uses. What the runtime has mapped at its start
// differs between versions, so the limit is above that (data + stack, in pages:
// proc_pid_statm(5)).
func limit() error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	fields := bytes.Fields(statm)
	if len(fields) < 6 {
		return os.ErrInvalid
	}
	pages, err := strconv.ParseUint(string(fields[5]), 10, 63)
	if err != nil {
		return err
	}
	data := pages*uint64(os.Getpagesize()) + parserData
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: data, Max: data}),
		unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: parserCPU, Max: parserCPU}),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
}
