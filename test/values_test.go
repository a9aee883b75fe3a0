//go:build story

package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/test/machine"
	"app-rollout/units/dotenv/dotenvtest"
)

// values are apps, and the variables and words that must arrive in them.
type values struct {
	files   map[string]string            // the .env files, by path
	want    map[string]map[string]string // app → its variables
	program []string                     // of nasty's
}

func (v *values) add(app, text string, want map[string]string) {
	v.files["/etc/app-rollout/"+app+".env"] = text
	v.want[app] = want
}

// TestValues: the app finds in its environment what godotenv reads, byte for byte, and
// each word of its command arrives as it was written. Both go through the real systemd
// of each release.
func TestValues(t *testing.T) {
	onEachRelease(t, func(t *testing.T, on machine.Options) {
		v := &values{files: map[string]string{}, want: map[string]map[string]string{}}
		v.addVectors(t)
		v.addNasty(t)
		on.Files = v.files
		shop := newShop(t, on)
		var units []string
		for app := range v.want {
			units = append(units, app+".service")
		}
		shop.Must("systemctl", append([]string{"start"}, units...)...)
		v.arrived(shop, units...)
		// The same is so when the helper has frozen the values in the store.
		shop.Sh("systemctl stop 'vector*.service'; rm /etc/app-rollout/vector*.env; systemctl daemon-reload")
		rollOut(shop, "nasty")
		v.arrived(shop, "nasty.service")
		got := strings.Split(strings.TrimSuffix(shop.Read("/proc/"+shop.Property("nasty.service", "MainPID")+"/cmdline"), "\x00"), "\x00")
		if len(got) != len(v.program) {
			t.Fatalf("%d words arrived of %d", len(got), len(v.program))
		}
		for i := range got {
			if got[i] != v.program[i] {
				t.Errorf("word %d arrived as %q, want %q", i, got[i], v.program[i])
			}
		}
		if said := shop.Sh("journalctl --sync; journalctl -b -o cat _PID=1 | grep -i -e ignoring -e invalid -e 'failed to' || true"); said != "" {
			t.Errorf("systemd complains:\n%s", said)
		}
	})
}

// addVectors makes an app of each vector of units/dotenv.
func (v *values) addVectors(t *testing.T) {
	n := 0
	for _, vector := range dotenvtest.Vectors(t) {
		if vector.Values == nil || vector.Reject != "" {
			continue
		}
		n++
		text := string(vector.Text())
		bom := ""
		if rest, ok := strings.CutPrefix(text, "\ufeff"); ok {
			bom, text = "\ufeff", rest
		}
		v.add(fmt.Sprintf("vector%d", n), bom+"SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\n"+text, vector.Values)
	}
	t.Logf("%d vectors", n)
}

// addNasty makes the app nasty, of hundreds of values and words of all kinds.
func (v *values) addNasty(t *testing.T) {
	all := nasty()
	skipped := 0
	for _, vector := range vectors[struct{ Value string }](t, "environment-file-quoting.json") {
		all = append(all, vector.Value)
	}
	var text strings.Builder
	want := map[string]string{}
	for i, value := range all {
		written, ok := dotenv(value)
		if !ok {
			skipped++
			continue
		}
		name := fmt.Sprintf("V%d", i)
		want[name] = value
		text.WriteString(name + "=" + written + "\n")
	}
	args := words()
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(a) + `"`
	}
	v.program = append([]string{"/usr/bin/python3", "-c", "import time; time.sleep(1e6)"}, args...)
	text.WriteString("SYSTEMD_EXEC_START='/usr/bin/python3 -c \"import time; time.sleep(1e6)\" " + strings.Join(quoted, " ") + "'\n")
	text.WriteString("SYSTEMD_CLUSTER_WATCH_SEC=0\n")
	v.add("nasty", text.String(), want)
	t.Logf("%d values (%d that no .env can hold), %d words", len(want), skipped, len(args))
}

// arrived checks that the processes of these units have the values.
func (v *values) arrived(a *app, units ...string) {
	a.t.Helper()
	arrived := environments(a, units...)
	for _, unit := range units {
		app := strings.TrimSuffix(unit, ".service")
		for name, value := range v.want[app] {
			if got, there := arrived[unit][name]; !there || got != value {
				a.t.Errorf("%s: %s arrived as %.200q, want %.200q\n%.500s", app, name, got, value, v.files["/etc/app-rollout/"+app+".env"])
			}
		}
	}
}

// environments are the variables that the main processes of units have.
func environments(a *app, units ...string) map[string]map[string]string {
	a.t.Helper()
	all := map[string]map[string]string{}
	out := a.Must("sh", append([]string{"-euc", `for u; do echo "$u $(base64 -w0 /proc/$(systemctl show --value --property=MainPID "$u")/environ)"; done`, "sh"}, units...)...)
	for _, line := range strings.Split(out, "\n") {
		unit, coded, _ := strings.Cut(line, " ")
		text, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			a.t.Fatal(err)
		}
		all[unit] = map[string]string{}
		for _, one := range strings.Split(string(text), "\x00") {
			name, value, _ := strings.Cut(one, "=")
			all[unit][name] = value
		}
	}
	return all
}

func vectors[T any](t *testing.T, file string) (all []T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(machine.Root(), "units", "testdata", file))
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// pieces are texts that mean more than themselves to systemd, a shell or godotenv.
var pieces = []string{
	`\`, `\\`, `"`, "$", "${A}", "$(id)", "`id`", "%", "%n", "%%", "#", " #", ";", "&", "|", "=", "==", "!", "~", "*", "?", "[", "{", "<",
	" ", "  ", "\u00a0", "\u2028", "é", "🦀", "\ufffd", "a", "Z", "0", "-", "+", "@", ":", "/", ".", ",", "_", "\\n", "\\x41", "\\u0041", "\\073", "NAME=value", "export ",
}

// breaks are texts that may be in a value, but not in a setting.
var breaks = []string{"\n", "\t", "\r", "\x01", "\x1b[2J", "\x7f", "\u0085", "'", "\n[Service]\nUser=root\n", "\nB=\"x\"\n"}

// nasty are hundreds of values, the same in each run.
func nasty() []string {
	r := rand.New(rand.NewPCG(5, 252))
	all := append([]string{"", " ", "\n", "\\", `"`, "$$", "007", "1e3", "null", "\r\n"}, pieces...)
	alphabet := append(append([]string{}, pieces...), breaks...)
	for range 500 {
		v := ""
		for range 1 + r.IntN(12) {
			v += alphabet[r.IntN(len(alphabet))]
		}
		all = append(all, v)
	}
	return all
}

// words are arguments of all kinds.
func words() []string {
	r := rand.New(rand.NewPCG(5, 257))
	all := append([]string{"", " "}, pieces...)
	for range 200 {
		w := ""
		for range 1 + r.IntN(8) {
			w += pieces[r.IntN(len(pieces))]
		}
		all = append(all, w)
	}
	return all
}

// dotenv quotes a value for godotenv: in single quotes if that is possible, else in
// double quotes, where a backslash and a $ have a meaning.
func dotenv(v string) (string, bool) {
	switch {
	case !strings.Contains(v, "'") && !strings.HasSuffix(v, `\`) && !strings.Contains(v, "\r\n"): // which is read as \n
		return "'" + v + "'", true
	case !strings.ContainsAny(v, "\"\\$"):
		return `"` + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(v) + `"`, true
	}
	return "", false
}
