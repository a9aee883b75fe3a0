package units

import (
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-rollout/units/problem"
)

// These are the checks of the settings table. A check enters a good value in the
// spec. For a bad value it says what the value must be, and never repeats it.

// cpus is the number of CPUs that "auto" means.
var cpus = runtime.NumCPU

const maxNodes = 256

// aBoolean is what a switch must be.
const aBoolean = "1, yes, true or on, or 0, no, false or off"

// boolean reads a switch as systemd does (systemd.syntax(7); parse_boolean,
// parse-util.c). ok is false if it is none.
func boolean(v string) (on, ok bool) {
	switch strings.ToLower(v) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}
	return false, false
}

func mode(s *Spec, _, v string) string {
	on, ok := boolean(v)
	if !ok {
		return aBoolean
	}
	s.Plan.Mode = 0
	if on {
		s.Plan.Mode = 1
	}
	return ""
}

func nodes(s *Spec, _, v string) string {
	if v == "auto" {
		s.Plan.Nodes = min(cpus(), maxNodes)
		return ""
	}
	n, ok := number(v, 1, maxNodes)
	if !ok {
		return "a number from 1 to 256, or auto"
	}
	s.Plan.Nodes = n
	return ""
}

func port(s *Spec, _, v string) string {
	n, ok := number(v, 1, 65535)
	switch {
	case !ok:
		return "a number from 1 to 65535"
	case n < 1024 && s.Source.UID != 0:
		return "1024 or more, since the .env is not root's"
	}
	s.Plan.Port = n
	return ""
}

func reusePort(s *Spec, _, v string) (must string) {
	var ok bool
	if s.Plan.ReusePort, ok = boolean(v); !ok {
		return aBoolean
	}
	return ""
}

func healthPath(s *Spec, _, v string) string {
	if !strings.HasPrefix(v, "/") || len(v) > 1024 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		return "an HTTP path: a / and printable ASCII without spaces, 1024 characters at most"
	}
	s.Plan.HealthPath = v
	return ""
}

// healthHost accepts what a Host header may hold: a name or an address, with a port
// if it is not the usual one (RFC 9110, 7.2). Without the setting it is localhost with
// the app's port.
func healthHost(s *Spec, _, v string) string {
	if len(v) > 255 || strings.Trim(v, problem.PlainWord+"[]") != "" || strings.ContainsAny(v, "/=,+@%") {
		return "a host's name or address, and a port after a colon if you like"
	}
	s.Plan.HealthHost = v
	return ""
}

func readySec(s *Spec, _, v string) string { return seconds(&s.Plan.ReadySec, v, 1, 600) }
func watchSec(s *Spec, _, v string) string { return seconds(&s.Plan.WatchSec, v, 0, 600) }
func drainSec(s *Spec, _, v string) string { return seconds(&s.Plan.DrainSec, v, 0, 3600) }

func releaseSec(s *Spec, _, v string) string { return seconds(&s.releaseSec, v, 1, 86400) }

func drainKeepalive(s *Spec, _, v string) string {
	s.Plan.LeaveKeepalive = v == "leave"
	if v != "leave" && v != "close" {
		return "close or leave"
	}
	return ""
}

func drainUntil(s *Spec, _, v string) string {
	s.Plan.DrainClosed = v == "closed"
	if v != "closed" && v != "answered" {
		return "answered or closed"
	}
	return ""
}

func balance(s *Spec, _, v string) string {
	s.Plan.Balanced = v == "leastconn"
	if v != "leastconn" && v != "hash" {
		return "leastconn or hash"
	}
	return ""
}

func seconds(into *int, v string, least, most int) string {
	n, ok := number(strings.TrimSuffix(v, "s"), least, most)
	if !ok {
		return "a number of seconds from " + strconv.Itoa(least) + " to " + strconv.Itoa(most)
	}
	*into = n
	return ""
}

func description(s *Spec, d, v string) string {
	// A backslash at the end of a line would join the next one to it.
	if len(v) > 200 || strings.TrimSpace(v) != v || strings.HasSuffix(v, `\`) {
		return "at most 200 bytes, without a space at either end or a backslash at the end"
	}
	s.set(d, strings.ReplaceAll(v, "%", "%%"))
	return ""
}

func serviceType(s *Spec, d, v string) string {
	s.Plan.Type = v
	return oneOf("exec", "simple", "notify")(s, d, v)
}

// oneOf accepts one of the words.
func oneOf(words ...string) func(*Spec, string, string) string {
	return valid(func(v string) bool { return slices.Contains(words, v) },
		strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
}

// toggle is a directive that is a switch, or one of some other words.
func toggle(words ...string) func(*Spec, string, string) string {
	must := aBoolean
	if len(words) > 0 {
		must = "1, yes, true, on, 0, no, false, off, " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
	}
	return func(s *Spec, d, v string) string {
		on, ok := boolean(v)
		switch {
		case slices.Contains(words, v):
			s.set(d, v)
		case !ok:
			return must
		case on:
			s.set(d, "yes")
		default:
			s.set(d, "no")
		}
		return ""
	}
}

func restartSec(s *Spec, d, v string) string {
	t, ok := span(v)
	if !ok || t < 100*time.Millisecond || t > 10*time.Minute {
		return "a time from 100ms to 10min, as 5s"
	}
	s.set(d, strconv.FormatInt(t.Milliseconds(), 10)+"ms")
	return ""
}

func timeoutStopSec(s *Spec, d, v string) string {
	t, ok := span(v)
	if !ok || t < time.Second || t > time.Hour {
		return "a time from 1s to 1h, as 30s"
	}
	s.Plan.TimeoutStopSec = int((t + time.Second - 1) / time.Second)
	s.set(d, strconv.FormatInt(t.Milliseconds(), 10)+"ms")
	return ""
}

// span reads the usual forms of systemd's time spans: a number of seconds, or
// numbers with a unit, like "1min 30s" (systemd.time(7)).
func span(v string) (time.Duration, bool) {
	if n, ok := number(v, 0, 1<<20); ok {
		return time.Duration(n) * time.Second, true
	}
	var sum time.Duration
	for v = strings.TrimSpace(v); v != ""; v = strings.TrimLeft(v, " ") {
		digits := len(v) - len(strings.TrimLeft(v, "0123456789"))
		n, ok := number(v[:digits], 0, 1<<20)
		if !ok {
			return 0, false
		}
		v = strings.TrimLeft(v[digits:], " ")
		letters := len(v) - len(strings.TrimLeft(v, "abcdefghijklmnopqrstuvwxyz"))
		unit, ok := map[string]time.Duration{
			"ms": time.Millisecond, "msec": time.Millisecond,
			"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
			"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
			"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
		}[v[:letters]]
		if !ok {
			return 0, false
		}
		sum += time.Duration(n) * unit
		v = v[letters:]
	}
	return sum, sum > 0
}

// valid accepts a value that is good.
func valid(good func(v string) bool, must string) func(*Spec, string, string) string {
	return func(s *Spec, d, v string) string {
		if !good(v) {
			return must
		}
		s.set(d, v)
		return ""
	}
}

// list accepts words that are each good, separated by spaces.
func list(good func(word string) bool, must string) func(*Spec, string, string) string {
	return func(s *Spec, d, v string) string {
		words := strings.Fields(v)
		for _, w := range words {
			if !good(w) {
				return must
			}
		}
		s.set(d, strings.Join(words, " "))
		return ""
	}
}

// accountName says whether systemd takes v as a user or group, by name or by
// number (valid_user_group_name, user-util.c).
func accountName(v string) bool {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		// The last two numbers mean "not set", in 16 and in 32 bits (uid_is_valid).
		return (v == "0" || v[0] != '0') && n != 1<<16-1 && n != 1<<32-1
	}
	if v == "" || len(v) > 31 {
		return false
	}
	for i, c := range []byte(v) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case (c >= '0' && c <= '9' || c == '-' || c == '.') && i > 0:
		default:
			return false
		}
	}
	return true
}

// orderable says whether an instance may be ordered after a unit. It may not be
// ordered after a target or a service of this package: the rollout waits for the
// instance, and so both would wait for each other.
func orderable(unit string) bool {
	base, ok := "", false
	for _, suffix := range []string{".service", ".socket", ".mount"} {
		if base, ok = strings.CutSuffix(unit, suffix); ok {
			break
		}
	}
	if !ok || base == "" || len(unit) > maxUnitName || strings.HasPrefix(base, "app-rollout") || strings.HasSuffix(base, "@") {
		return false
	}
	for _, c := range []byte(base) {
		if !strings.ContainsRune(problem.PlainWord, rune(c)) && c != '\\' || c == '/' || c == '=' || c == ',' || c == '+' {
			return false
		}
	}
	return true
}

// fileLimit says whether v is a number of files, or SOFT:HARD.
func fileLimit(v string) bool {
	soft, hard, two := strings.Cut(v, ":")
	low, ok := number(soft, 1, 1<<30)
	high := low
	if ok && two {
		high, ok = number(hard, 1, 1<<30)
	}
	return ok && low <= high
}

func memory(v string) bool {
	n := strings.TrimRight(v, "KMGT")
	_, ok := number(n, 1, 1<<50)
	return v == "infinity" || percent(v, 100) || ok && len(v)-len(n) <= 1
}

func cpuShare(v string) bool { return percent(v, 100000) }

func cpuWeight(v string) bool {
	_, ok := number(v, 1, 10000)
	return ok
}

func tasks(v string) bool {
	_, ok := number(v, 1, 1<<30)
	return ok || v == "infinity" || percent(v, 100)
}

func octalMode(v string) bool {
	n, err := strconv.ParseUint(v, 8, 16)
	return err == nil && n <= 0o777 && len(v) <= 4
}

func addressFamily(v string) bool {
	name, ok := strings.CutPrefix(v, "AF_")
	return ok && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// number reads a plain decimal number within bounds, without a sign, spaces or
// leading zeros.
func number(v string, least, most int) (int, bool) {
	n, err := strconv.Atoi(v)
	return n, err == nil && n >= least && n <= most && strconv.Itoa(n) == v
}

func percent(v string, most int) bool {
	n, isPercent := strings.CutSuffix(v, "%")
	_, ok := number(n, 1, most)
	return isPercent && ok
}
