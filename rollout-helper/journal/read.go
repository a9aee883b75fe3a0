package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// Record is the fields of one record of a service's journal that matter here.
type Record struct {
	App      string `json:"APP_ROLLOUT_APP"`
	Step     string `json:"APP_ROLLOUT_STEP"`
	Unit     string `json:"APP_ROLLOUT_INSTANCE"` // of a failure: the instance that did it
	Number   string `json:"APP_ROLLOUT_GENERATION"`
	Priority string `json:"PRIORITY"`
	Cursor   string `json:"__CURSOR"`
	Text     string
}

// Failed says that the record is an error.
func (r Record) Failed() bool { return r.Priority != "" && r.Priority <= "3" }

// parseRecord reads a line of `journalctl --output=json`. A message that is not
// UTF-8 comes as an array of bytes.
func parseRecord(line []byte) (Record, bool) {
	var r Record
	var message struct {
		Text any `json:"MESSAGE"`
	}
	if json.Unmarshal(line, &r) != nil || json.Unmarshal(line, &message) != nil {
		return r, false
	}
	switch text := message.Text.(type) {
	case string:
		r.Text = text
	case []any:
		var b []byte
		for _, c := range text {
			n, _ := c.(float64)
			b = append(b, byte(n))
		}
		r.Text = string(b)
	}
	return r, true
}

// Reader follows what services log from a moment on. That moment is a cursor and not a
// time, because clocks are set.
type Reader struct {
	match   []string
	after   string // the cursor of the last record before this run
	process *exec.Cmd
	Records chan Record // closed when journalctl has ended
}

// ReadFromNow starts to follow services.
func ReadFromNow(services ...string) (*Reader, error) {
	r := &Reader{Records: make(chan Record)}
	for _, service := range services {
		// If the helper has ended before journald reads its last record, journald no
		// longer knows the unit. So the unit that the record itself names counts too,
		// if root wrote the record.
		r.match = append(r.match, "_SYSTEMD_UNIT="+service, "+", "_UID=0", serviceField+"="+service, "+")
	}
	r.match = r.match[:len(r.match)-1]
	last, err := exec.Command("journalctl", "--quiet", "--lines=1", "--output=json").Output()
	if err != nil {
		return nil, fmt.Errorf("the journal cannot be read: %w", err)
	}
	if at, ok := parseRecord(last); ok {
		r.after = at.Cursor
		// With --after-cursor= systemd 252 leaves out the first record that matches, if
		// the one at the cursor does not.
		r.match = append(r.match, "--cursor="+r.after)
	}
	r.process = exec.Command("journalctl", append([]string{"--quiet", "--output=json", "--follow", "--lines=all"}, r.match...)...)
	// It gets a process group of its own, so that Ctrl-C does not end it.
	r.process.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	out, err := r.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.process.Start(); err != nil {
		return nil, fmt.Errorf("the journal cannot be followed: %w", err)
	}
	go r.scan(out)
	return r, nil
}

func (r *Reader) scan(out io.Reader) {
	defer close(r.Records)
	for s := bufio.NewReader(out); ; {
		line, err := s.ReadBytes('\n')
		if err != nil {
			return
		}
		if record, ok := parseRecord(line); ok && record.Cursor != r.after {
			r.Records <- record
		}
	}
}

// End stops following. It waits until journald has written everything that was
// logged, and returns all records since ReadFromNow.
func (r *Reader) End() ([]Record, error) {
	r.Close()
	if out, err := exec.Command("journalctl", "--sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("journalctl --sync: %w: %s", err, bytes.TrimSpace(out))
	}
	out, err := exec.Command("journalctl", append([]string{"--quiet", "--output=json"}, r.match...)...).Output()
	var all []Record
	for line := range bytes.Lines(out) {
		if record, ok := parseRecord(line); ok && record.Cursor != r.after {
			all = append(all, record)
		}
	}
	return all, err
}

// Close stops following.
func (r *Reader) Close() {
	_ = r.process.Process.Kill()
	for range r.Records {
	}
	_ = r.process.Wait()
}

// LastLines are the last n lines that a unit's own processes have logged since the
// machine booted. They are all of one instance, because no number is given out twice.
func LastLines(unit string, n int) []string {
	out, err := exec.Command("journalctl", "--quiet", "--boot", "--output=cat", fmt.Sprintf("--lines=%d", n), "_SYSTEMD_UNIT="+unit).Output()
	if err != nil {
		return nil
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, printable(strings.TrimRight(line, "\n")))
	}
	return lines
}

// escape is a control sequence of a terminal, such as a colour; see ECMA-48.
var escape = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]")

// printable keeps an app's log from doing anything to the terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, escape.ReplaceAllString(line, ""))
}
