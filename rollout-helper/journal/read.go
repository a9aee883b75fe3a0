package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/units"
)

// Record is the fields of one record that matter here. The sender of a record writes
// them as it likes, but for those of which journald itself is the author: Sender, PID
// and UID; see systemd.journal-fields(7).
type Record struct {
	App      string
	Step     string
	Unit     string // of a failure: the instance that did it
	Number   string // of the generation
	Priority string
	Cursor   string
	Time     time.Time
	Text     string

	Sender   string // the unit that logged it
	PID, UID string
	Service  string // what a helper says that it runs in
	About    string // the unit that systemd says something of
}

// Failed says that the record is an error.
func (r Record) Failed() bool { return r.Priority != "" && r.Priority <= "3" }

// field is the value of one field in `journalctl --output=json`: a text, or an array
// of bytes if it is not UTF-8, or an array of values if the record has the field more
// than once; then the first counts.
type field string

func (f *field) UnmarshalJSON(text []byte) error {
	var b []byte
	var many []field
	switch {
	case len(text) > 0 && text[0] != '[':
		return json.Unmarshal(text, (*string)(f))
	case json.Unmarshal(text, (*numbers)(&b)) == nil:
		*f = field(b)
	case json.Unmarshal(text, &many) == nil && len(many) > 0:
		*f = many[0]
	}
	return nil
}

// numbers are bytes that JSON has as an array of numbers, not in base 64.
type numbers []byte

func (n *numbers) UnmarshalJSON(text []byte) error {
	var each []uint16
	if err := json.Unmarshal(text, &each); err != nil {
		return err
	}
	for _, c := range each {
		*n = append(*n, byte(c))
	}
	return nil
}

// parseRecord reads a line of `journalctl --output=json`.
func parseRecord(line []byte) (Record, bool) {
	var fields map[string]field
	if json.Unmarshal(line, &fields) != nil {
		return Record{}, false
	}
	get := func(name string) string { return string(fields[name]) }
	microseconds, _ := strconv.ParseInt(get("__REALTIME_TIMESTAMP"), 10, 64)
	return Record{
		App: get(units.LogField), Step: get(stepField), Unit: get(instanceField), Number: get(generationField),
		Priority: get("PRIORITY"), Cursor: get("__CURSOR"), Time: time.UnixMicro(microseconds), Text: get("MESSAGE"),
		Sender: get("_SYSTEMD_UNIT"), PID: get("_PID"), UID: get("_UID"), Service: get(serviceField), About: get("UNIT"),
	}, true
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

// LastLines are the last n lines that a unit's own processes have logged since a time in
// this boot. An instance has a number that no other one had, but all release commands of an
// app run in one unit.
func LastLines(unit string, since time.Time, n int) []string {
	out, err := exec.Command("journalctl", "--quiet", "--boot", "--output=cat", fmt.Sprintf("--since=@%d", since.Unix()), fmt.Sprintf("--lines=%d", n), "_SYSTEMD_UNIT="+unit).Output()
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
