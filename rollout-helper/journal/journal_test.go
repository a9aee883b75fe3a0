package journal

import (
	"slices"
	"testing"
)

func TestParseRecord(t *testing.T) {
	r, ok := parseRecord([]byte(`{"__CURSOR":"c","APP_ROLLOUT_APP":"shop","APP_ROLLOUT_STEP":"failed","APP_ROLLOUT_INSTANCE":"shop@3.service","PRIORITY":"3","MESSAGE":[104,105]}`))
	if !ok || !r.Failed() || r.Text != "hi" || r.App != "shop" || r.Unit != "shop@3.service" || r.Cursor != "c" {
		t.Errorf("%v %+v", ok, r)
	}
	if _, ok := parseRecord([]byte("-- No entries --")); ok {
		t.Error("taken for a record")
	}
}

// An app's log cannot move a terminal's cursor.
func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\r\u009bd é \x1b[1;31merror\x1b[0m"); got != "ab\tcd é error" {
		t.Errorf("%q", got)
	}
}

// A record has a field more than once, bytes that are no text, or a field that is too
// long: it is still a record, and its message what it can be.
func TestOddRecords(t *testing.T) {
	for text, want := range map[string]string{
		`{"MESSAGE":"a"}`:                             "a",
		`{"MESSAGE":[27,91,65,255]}`:                  "\x1b[A\xff",
		`{"MESSAGE":["a","b"]}`:                       "a",
		`{"MESSAGE":[[255,10],"b"]}`:                  "\xff\n",
		`{"MESSAGE":null}`:                            "",
		`{"MESSAGE":[]}`:                              "",
		`{"MESSAGE":"a","APP_ROLLOUT_APP":["x","y"]}`: "a",
	} {
		if r, ok := parseRecord([]byte(text)); !ok || r.Text != want {
			t.Errorf("%s: %q, %v", text, r.Text, ok)
		}
	}
}

// Whose a line is, only the fields tell that journald writes.
func TestLines(t *testing.T) {
	l := Logs{Apps: []string{"shop", "shop-jobs"}}
	for _, c := range []struct {
		name   string
		record Record
		from   string // "" for a record that is not shown
	}{
		{"an instance", Record{Sender: "shop@3.service", Text: "hello"}, "shop@3: hello"},
		{"an instance of 0.1.0", Record{Sender: "shop@1.service", App: "", Text: "hello"}, "shop@1: hello"},
		{"mode 0", Record{Sender: "shop-jobs.service", Text: "hello"}, "shop-jobs: hello"},
		{"an instance that pretends", Record{Sender: "shop@3.service", App: "blog", Text: "hello"}, "shop@3: hello"},
		{"another app", Record{Sender: "blog@3.service", Text: "hello"}, ""},
		{"another app that pretends", Record{Sender: "blog@3.service", App: "shop", Text: "hello"}, ""},
		{"a user that pretends", Record{Sender: "user@1000.service", App: "shop", Text: "hello"}, ""},
		{"a user that pretends to be a rollout", Record{Sender: "session-1.scope", UID: "1000", Service: "app-rollout.service", App: "shop"}, ""},
		{"a user that pretends to be systemd", Record{Sender: "user@1000.service", PID: "100", About: "shop@3.service", Priority: "3"}, ""},
		{"no instance", Record{Sender: "shop@web.service", Text: "hello"}, ""},
		{"a number that is none of ours", Record{Sender: "shop@03.service", Text: "hello"}, ""},
		{"a rollout", Record{Sender: "app-rollout@shop.service", App: "shop", Text: "shop: generation 1 is frozen"}, "shop rollout: generation 1 is frozen"},
		{"a rollout of all", Record{Sender: "app-rollout-boot.service", App: "shop", Text: "shop: ready"}, "shop rollout: ready"},
		{"a rollout of another app", Record{Sender: "app-rollout.service", App: "blog", Text: "blog: ready"}, ""},
		{"a helper that has ended", Record{UID: "0", Service: "app-rollout.service", App: "shop", Text: "shop: done"}, "shop rollout: done"},
		{"an exit", Record{Sender: "init.scope", PID: "1", About: "shop@3.service", Priority: "5", Text: "shop@3.service: Main process exited"}, "shop@3 systemd: Main process exited"},
		{"a start", Record{Sender: "init.scope", PID: "1", About: "shop@3.service", Priority: "6", Text: "Started shop@3.service"}, ""},
		{"an exit of something else", Record{Sender: "init.scope", PID: "1", About: "ssh.service", Priority: "5"}, ""},
	} {
		line, ok := l.line(c.record)
		if got := line.From() + ": " + line.Text; ok != (c.from != "") || ok && got != c.from {
			t.Errorf("%s: %v %q, want %q", c.name, ok, got, c.from)
		}
	}
}

// A message of several lines is as many lines, and none does anything to a terminal.
func TestSplit(t *testing.T) {
	var all []string
	for _, line := range (Line{Unit: "shop@3", Text: "a\r\n\x1b[2Jb\n\nc\n"}).split() {
		all = append(all, line.Text)
	}
	if want := []string{"a", "b", "", "c"}; !slices.Equal(all, want) {
		t.Errorf("%q, want %q", all, want)
	}
}
