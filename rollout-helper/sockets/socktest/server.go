package socktest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"app-rollout/rollout-helper/sockets"

	"golang.org/x/sys/unix"
)

const serverConfig = "SOCKTEST_SERVER"

// Config is what a server does. To each line it answers with its name and a
// newline. A line that begins with a duration is answered so much later; one of
// the form "stream 3 100ms" is answered by as many pieces, so far apart.
type Config struct {
	Name   string
	Listen []Listen
	// Lazy servers accept nothing until told to.
	Lazy bool
	// Rude servers reset each connection that they have accepted.
	Rude bool
	// Elsewhere puts the server into a network namespace of its own.
	Elsewhere bool `json:"-"`
}

// Listen is one address, as net.Listen knows it.
type Listen struct {
	Network, Address string
	Count            int  // listeners on it; 0 is 1
	Plain            bool // does not ask for SO_REUSEPORT
	MPTCP            bool
	Deferred         bool // stays half open until the client sends (TCP_DEFER_ACCEPT)
}

// Server is a server in a process and a control group of its own.
type Server struct {
	Cgroup string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
}

// Start starts a server in a control group, and waits until it listens.
func Start(t testing.TB, cgroup string, config Config) *Server {
	t.Helper()
	s, err := TryStart(t, cgroup, config)
	if err != nil {
		t.Fatalf("server %s: %v", config.Name, err)
	}
	return s
}

// TryStart is Start for a server that may fail to listen.
func TryStart(t testing.TB, cgroup string, config Config) (*Server, error) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(sockets.Root(), cgroup))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var complaint strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serverConfig+"="+string(text))
	cmd.Stderr = &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if config.Elsewhere {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &Server{Cgroup: cgroup, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(s.Kill)
	if !s.out.Scan() {
		s.cmd.Wait()
		return nil, fmt.Errorf("%s", strings.TrimSpace(complaint.String()))
	}
	return s, nil
}

// Kill ends the server at once (SIGKILL).
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// Freeze stops the server as it is (SIGSTOP). It can still be killed.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// Do has the server close its listeners ("close"), begin to accept ("accept"), or
// accept one connection at each listener ("one"), and waits until it has or, with
// "one", has begun to.
func (s *Server) Do(t testing.TB, command string) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		t.Fatal(err)
	}
	if !s.out.Scan() {
		t.Fatalf("the server died at %q", command)
	}
}

// serve is the server.
func serve(text string) error {
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	var listeners []net.Listener
	for _, l := range config.Listen {
		for range max(1, l.Count) {
			listener, err := l.listen()
			if err != nil {
				return err
			}
			listeners = append(listeners, listener)
		}
	}
	accept := func() {
		for _, l := range listeners {
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					if config.Rude {
						conn.(*net.TCPConn).SetLinger(0)
						conn.Close()
						continue
					}
					go config.answer(conn)
				}
			}()
		}
	}
	one := func() {
		for _, l := range listeners {
			go func() {
				if conn, err := l.Accept(); err == nil {
					config.answer(conn)
				}
			}()
		}
	}
	if !config.Lazy {
		accept()
	}
	fmt.Println("listening")
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch commands.Text() {
		case "accept":
			accept()
		case "one":
			one()
		case "close":
			for _, l := range listeners {
				l.Close()
			}
		}
		fmt.Println("done")
	}
	return commands.Err()
}

func (l Listen) listen() (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var errs [2]error
		err := raw.Control(func(fd uintptr) {
			if !l.Plain {
				errs[0] = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
			if l.Deferred {
				errs[1] = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)
			}
		})
		return errors.Join(err, errs[0], errs[1])
	}}
	config.SetMultipathTCP(l.MPTCP)
	return config.Listen(context.Background(), l.Network, l.Address)
}

func (c Config) answer(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		if delay, err := time.ParseDuration(word); err == nil {
			time.Sleep(delay)
		}
		if word == "stream" {
			var pieces int
			var pause string
			fmt.Sscan(rest, &pieces, &pause)
			delay, _ := time.ParseDuration(pause)
			for range pieces {
				fmt.Fprint(conn, ".")
				time.Sleep(delay)
			}
		}
		if _, err := fmt.Fprintln(conn, c.Name); err != nil {
			return
		}
	}
}

// Client is a client's end of a connection to a server.
type Client struct {
	net.Conn
	lines *bufio.Reader
}

// Connect connects to a server; closing the connection leaves no TIME_WAIT.
func Connect(address string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	conn.(*net.TCPConn).SetLinger(0)
	return NewClient(conn), nil
}

// NewClient speaks with a server over conn.
func NewClient(conn net.Conn) *Client {
	return &Client{Conn: conn, lines: bufio.NewReader(conn)}
}

// Say sends a line.
func (c *Client) Say(line string) error {
	_, err := fmt.Fprintln(c, line)
	return err
}

// Hear reads a line.
func (c *Client) Hear() (string, error) {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := c.lines.ReadString('\n')
	return strings.TrimSpace(line), err
}

// Who connects to the address, and returns the name of the server that answers.
func Who(address string) (string, error) {
	c, err := Connect(address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Say("who"); err != nil {
		return "", err
	}
	return c.Hear()
}

// Count asks n times who answers, and counts the names. It fails the test if a
// connection is lost.
func Count(t testing.TB, address string, n int) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for range n {
		name, err := Who(address)
		if err != nil {
			t.Fatalf("asking %s: %v", address, err)
		}
		counts[name]++
	}
	return counts
}
