package dotenv

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"app-rollout/units/dotenv/dotenvtest"
	"app-rollout/units/problem"
)

func TestMain(m *testing.M) {
	ParserMain()
	os.Exit(m.Run())
}

// lines are the messages of an error.
func lines(err error) string {
	var all []string
	for _, e := range problem.Each(err) {
		all = append(all, e.Error())
	}
	return strings.Join(all, "\n")
}

func TestParseRefuses(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "V%d=\n", i)
		}
		return b.String()
	}
	long := strings.Repeat("x", 60000)
	for _, c := range []struct{ name, text, want string }{
		{"NUL", "A=1\nB=\x00\n", "x.env:2: holds a NUL byte; save the file as plain text in UTF-8"},
		{"NUL in a comment", "# \x00\n", "x.env:1: holds a NUL byte; save the file as plain text in UTF-8"},
		{"Latin-1", "A=1\nB=caf\xe9\n", "x.env:2: is not UTF-8; save the file as UTF-8"},
		{"noncharacter", "A=\ufdd0\n", "x.env:1: A holds a character that systemd takes for invalid UTF-8; remove it"},
		{"too large", "A=" + strings.Repeat("x", MaxText), "x.env: is larger than 64 KiB; keep large values in files of their own"},
		{"empty name", "A=1\n=" + dotenvtest.Canary + "\n", "x.env:2: has no valid name before the =; make it of letters, digits and _, and do not begin it with a digit"},
		{"odd name", "A=1\n\n1" + dotenvtest.Canary + "=x\n", "x.env:3: has no valid name before the =; make it of letters, digits and _, and do not begin it with a digit"},
		{"no assignment", "A=1\n" + dotenvtest.Canary + "\nB=2\n", "x.env:2: is not NAME=value; use single quotes around a value with spaces, quotes or several lines"},
		{"open quote", "A=1\nB=\"" + dotenvtest.Canary + "\nC=2\n", "x.env:2: has a quote that is never closed; use single quotes around a value with spaces, quotes or several lines"},
		{"line after a quoted value of several", "A='1\n2\n3'\nB-C=" + dotenvtest.Canary + "\n", "x.env:4: is not NAME=value; use single quotes around a value with spaces, quotes or several lines"},
		{"CRLF keeps the lines", "A=1\r\n\r\nNOTIFY_SOCKET=" + dotenvtest.Canary + "\r\n", "x.env:3: NOTIFY_SOCKET is set by systemd for the app itself; remove it"},
		{"reserved", "LISTEN_FDS=3\n", "x.env:1: LISTEN_FDS is set by systemd for the app itself; remove it"},
		{"too many", many(maxVariables + 1), "x.env: has more than 1000 variables; keep the others in a file that the app reads itself"},
		{"too long", "A='" + long + "'\nB=$A$A$A\n", "x.env:2: B is longer than 131071 bytes; keep it in a file of its own"},
		{"too much in sum", "A='" + long + "'\n" + sums(), "x.env: has variables of more than 1 MiB in all; keep large values in files of their own"},
		{"bomb", dotenvtest.Bomb(6), "x.env: has variables that grow too large when they are replaced in one another; use single quotes around values with a $"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("x.env", []byte(c.text))
			got := lines(err)
			if got != c.want {
				t.Errorf("error is\n%s\nwant\n%s", got, c.want)
			}
			if strings.Contains(got, dotenvtest.Canary) {
				t.Error("a value stands in the message")
			}
		})
	}
	// Every name that a service gets from systemd itself and an .env must
	// not set (systemd.exec(5), "Environment Variables Set or Propagated").
	for _, name := range []string{"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
		"WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID", "MANAGERPIDFDID", "SYSTEMD_EXEC_PID",
		"CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
		"MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "FDSTORE", "SYSTEMD_INSTANCE"} {
		_, err := Parse("x.env", []byte("A=1\n"+name+"="+dotenvtest.Canary+"\n"))
		remedy := "remove it"
		if strings.HasSuffix(name, "_DIRECTORY") {
			remedy = "give yours another name, like APP_" + name
		}
		if got, want := lines(err), "x.env:2: "+name+" is set by systemd for the app itself; "+remedy; got != want {
			t.Errorf("error is\n%s\nwant\n%s", got, want)
		}
	}
}

// sums are 20 variables of 60,000 bytes each, made with 20 dollars.
func sums() string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "S%d=$A\n", i)
	}
	return b.String()
}

func TestParseTakes(t *testing.T) {
	var exactly strings.Builder
	for i := range maxVariables {
		fmt.Fprintf(&exactly, "V%d=\n", i)
	}
	var many strings.Builder
	many.WriteString("A=" + strings.Repeat("x", 100) + "\n")
	for i := range 100 {
		fmt.Fprintf(&many, "URL%d=http://$A/%d\n", i, i)
	}
	for _, c := range []struct {
		name, text string
		variables  int
	}{
		{"as many as may be", exactly.String(), maxVariables},
		{"a BOM", "\ufeffA=1\n", 1},
		{"only comments", strings.Repeat("#\n", MaxText/2), 0},
		{"more $ than this process parses", many.String(), 101},
		{"a name that systemd does not reserve", "UPLOAD_DIRECTORY=/x\nLISTEN_ADDR=::\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("x.env", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Values) != c.variables {
				t.Errorf("%d variables, want %d", len(p.Values), c.variables)
			}
		})
	}
}

// The child gives the very same as this process, and what takes too much of it
// costs a bounded amount of time and memory.
func TestParseApart(t *testing.T) {
	for _, v := range dotenvtest.Vectors(t) {
		text := v.Text()
		if len(text) > MaxText {
			continue // never gets that far
		}
		here, errHere := parseHere(text)
		apart, errApart := parseApart(text)
		if (errHere == nil) != (errApart == nil) || errHere == nil && fmt.Sprint(here) != fmt.Sprint(apart) {
			t.Errorf("%s: %q, %v apart; %q, %v here", v.Name, apart, errApart, here, errHere)
		}
	}
	began := time.Now()
	_, err := parseApart([]byte(dotenvtest.Bomb(9)))
	if err == nil || strings.Contains(err.Error(), "xxx") {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(began); took > 2*parserTime {
		t.Errorf("took %s", took)
	}
}

// The child's memory is bounded: values that grow beyond it on the way are
// refused, though little is left of them in the end and no time is over.
func TestParserMemory(t *testing.T) {
	grows := func(levels int) []byte {
		text := dotenvtest.Bomb(levels)
		for i := range levels + 1 {
			text += fmt.Sprintf("A%d=\n", i)
		}
		return []byte(text)
	}
	if values, err := parseApart(grows(4)); err != nil || len(values) != 5 { // 0.1 MB
		t.Errorf("%d values, %v", len(values), err)
	}
	if _, err := parseApart(grows(7)); err == nil { // more than 100 MB
		t.Error("the child took more memory than it may")
	}
}

// Files made to be slow end soon, by themselves.
func TestHostileTexts(t *testing.T) {
	for name, text := range map[string][]byte{
		"comments":          bytes.Repeat([]byte("#\n"), 10<<20),
		"quadratic":         bytes.Repeat([]byte("export_1=x\n"), MaxText/11),
		"bomb of 322 bytes": []byte(dotenvtest.Bomb(7)),
		"dollars":           append([]byte("A=x\nB="), bytes.Repeat([]byte("$A"), MaxText/2-10)...),
		"spaces":            append([]byte("A="), bytes.Repeat([]byte(" #"), MaxText/2-10)...),
		"backslashes":       append([]byte(`A="`), bytes.Repeat([]byte(`\"`), MaxText/2-10)...),
		"quotes":            bytes.Repeat([]byte("A='"), MaxText/3),
		"a long name":       bytes.Repeat([]byte("A"), MaxText),
	} {
		began := time.Now()
		Parse("x.env", text)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
}

func TestSurprises(t *testing.T) {
	for text, want := range map[string]string{
		`A=pa$sword`:        "has a $ that may be replaced",
		`A="x$B"`:           "has a $ that may be replaced",
		`A='x$B'`:           "",
		`A=${B:-c}`:         "has a default for a variable in it",
		`A="${B-c}"`:        "has a default for a variable in it",
		`A='${B:-c}'`:       "",
		`A=$(hostname)`:     "no command is run",
		`PATH=/x:$PATH`:     "has $PATH in it, which is replaced by nothing",
		`PATH="/x:${PATH}"`: "has $PATH in it, which is replaced by nothing",
		`PATH='/x:$PATH'`:   "has $PATH in it, which is not replaced",
		`A=$A:b`:            "has $A in it, which is replaced by nothing",
		`A=$AB`:             "has a $ that may be replaced",
		"A=`b c`":           "keeps its backticks",
		"A='`b c`'":         "",
		`A=abc #def`:        "ends before the #",
		`A=abc # def`:       "",
		`A=abc #`:           "",
		`A=abc #-- def`:     "",
		`A=#abc`:            "begins with #",
		`A=a # b # c`:       "has two #",
		`A=a # b`:           "",
		`A="say \"hi\""`:    `has a \" right before its closing quote`,
		`A="say \"hi\" x"`:  "",
		`A=plain`:           "",
	} {
		all, _, _ := scan([]byte(text))
		got := ""
		for _, p := range all[0].Surprises() {
			got = problem.Join(got, p.Text)
			if !strings.HasPrefix(p.Remedy, "use ") {
				t.Errorf("%s: %q has the remedy %q", text, p.Text, p.Remedy)
			}
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
