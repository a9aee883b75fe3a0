package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
)

// Line is one line of the load command's output: the counts so far or, as the last
// line, the report.
type Line struct {
	Kinds  map[Kind]int `json:"kinds,omitempty"`
	Report *Report      `json:"report,omitempty"`
}

// Client is a running load command.
type Client struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}

	mu     sync.Mutex
	kinds  map[Kind]int
	report *Report
	err    error
}

// Start runs cmd: the load command with its arguments, or another command that runs
// it, in a machine for example.
func Start(cmd *exec.Cmd) (*Client, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Client{cmd: cmd, stdin: stdin, done: make(chan struct{}), kinds: map[Kind]int{}}
	go c.read(stdout)
	return c, nil
}

func (c *Client) read(stdout io.Reader) {
	defer close(c.done)
	lines := json.NewDecoder(bufio.NewReaderSize(stdout, 1<<20))
	for {
		var line Line
		err := lines.Decode(&line)
		c.mu.Lock()
		if line.Kinds != nil {
			c.kinds = line.Kinds
		}
		if line.Report != nil {
			c.report = line.Report
		}
		c.mu.Unlock()
		if err != nil {
			if waitErr := c.cmd.Wait(); waitErr != nil {
				c.err = waitErr
			} else if !errors.Is(err, io.EOF) {
				c.err = err
			}
			return
		}
	}
}

// Kinds is the counts so far, about a tenth of a second old.
func (c *Client) Kinds() map[Kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kinds
}

// Answered is the number of attempts that ended well so far.
func (c *Client) Answered() int { return c.Kinds()[OK] }

// Stop lets the attempts under way end and returns the report.
func (c *Client) Stop() (*Report, error) {
	c.stdin.Close() // a second time does no harm
	<-c.done
	if c.report == nil {
		return nil, fmt.Errorf("the load client gave no report: %v", c.err)
	}
	return c.report, nil
}
