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

// TestValues: what godotenv reads is what the app finds in its environment,
// byte for byte, and each word of its command arrives as it was written, through
// the real systemd of both releases.
func TestValues(t *testing.T) {
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			want := map[string]map[string]string{} // app → its variables
			files := map[string]string{}
			write := func(app, text string, values map[string]string) {
				files["/etc/app-rollout/"+app+".env"] = text
				want[app] = values
			}
			n := 0
			for _, v := range dotenvtest.Vectors(t) {
				if v.Values == nil || v.Reject != "" {
					continue
				}
				n++
				text := string(v.Text())
				bom := ""
				if rest, ok := strings.CutPrefix(text, "\ufeff"); ok {
					bom, text = "\ufeff", rest
				}
				write(fmt.Sprintf("vector%d", n), bom+"SYSTEMD_EXEC_START='/usr/bin/sleep infinity'\n"+text, v.Values)
			}
			values := nasty()
			skipped := 0
			for _, v := range vectors[struct{ Value string }](t, "environment-file-quoting.json") {
				values = append(values, v.Value)
			}
			var text strings.Builder
			expected := map[string]string{}
			for i, v := range values {
				written, ok := dotenv(v)
				if !ok {
					skipped++
					continue
				}
				name := fmt.Sprintf("V%d", i)
				expected[name] = v
				text.WriteString(name + "=" + written + "\n")
			}
			args := words()
			quoted := make([]string, len(args))
			for i, a := range args {
				quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(a) + `"`
			}
			program := []string{"/usr/bin/python3", "-c", "import time; time.sleep(1e6)"}
			text.WriteString("SYSTEMD_EXEC_START='/usr/bin/python3 -c \"import time; time.sleep(1e6)\" " + strings.Join(quoted, " ") + "'\n")
			text.WriteString("SYSTEMD_CLUSTER_WATCH_SEC=0\n")
			write("nasty", text.String(), expected)
			t.Logf("%d vectors, %d values (%d that no .env can hold), %d words", n, len(expected), skipped, len(args))

			m := machine.Boot(t, machine.Options{Release: release, Files: files, Install: true})
			var units []string
			for app := range want {
				units = append(units, app+".service")
			}
			m.Must("systemctl", append([]string{"start"}, units...)...)
			check := func(units ...string) {
				t.Helper()
				arrived := environments(t, m, units...)
				for _, unit := range units {
					app := strings.TrimSuffix(unit, ".service")
					for name, value := range want[app] {
						if v, there := arrived[unit][name]; !there || v != value {
							t.Errorf("%s: %s arrived as %.200q, want %.200q\n%.500s", app, name, v, value, files["/etc/app-rollout/"+app+".env"])
						}
					}
				}
			}
			check(units...)
			// The same once more from the store, as the helper freezes it.
			m.Sh("systemctl stop 'vector*.service'; rm /etc/app-rollout/vector*.env; systemctl daemon-reload")
			deploys(t, m, "nasty")
			check("nasty.service")
			got := strings.Split(strings.TrimSuffix(m.Read("/proc/"+m.Property("nasty.service", "MainPID")+"/cmdline"), "\x00"), "\x00")
			all := append(program, args...)
			if len(got) != len(all) {
				t.Fatalf("%d words arrived of %d", len(got), len(all))
			}
			for i := range all {
				if got[i] != all[i] {
					t.Errorf("word %d arrived as %q, want %q", i, got[i], all[i])
				}
			}
			if said := m.Sh("journalctl -b -o cat _PID=1 | grep -i -e ignoring -e invalid -e 'failed to' || true"); said != "" {
				t.Errorf("systemd complains:\n%s", said)
			}
		})
	}
}

// environments are the variables that the main processes of units have.
func environments(t *testing.T, m *machine.Machine, units ...string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	out := m.Must("sh", append([]string{"-euc", `for u; do echo "$u $(base64 -w0 /proc/$(systemctl show --value --property=MainPID "$u")/environ)"; done`, "sh"}, units...)...)
	for _, line := range strings.Split(out, "\n") {
		unit, coded, _ := strings.Cut(line, " ")
		text, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			t.Fatal(err)
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

// pieces are what systemd, a shell or godotenv may take for more than itself.
var pieces = []string{
	`\`, `\\`, `"`, "$", "${A}", "$(id)", "`id`", "%", "%n", "%%", "#", " #", ";", "&", "|", "=", "==", "!", "~", "*", "?", "[", "{", "<",
	" ", "  ", "\u00a0", "\u2028", "é", "🦀", "\ufffd", "a", "Z", "0", "-", "+", "@", ":", "/", ".", ",", "_", "\\n", "\\x41", "\\u0041", "\\073", "NAME=value", "export ",
}

// breaks may stand in a value, but in no setting.
var breaks = []string{"\n", "\t", "\r", "\x01", "\x1b[2J", "\x7f", "\u0085", "'", "\n[Service]\nUser=root\n", "\nB=\"x\"\n"}

// nasty are some hundreds of values, the same in each run.
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

// dotenv writes a value so that godotenv reads it: in single quotes as it is,
// else in double quotes, where a backslash and a $ mean more.
func dotenv(v string) (string, bool) {
	switch {
	case !strings.Contains(v, "'") && !strings.HasSuffix(v, `\`) && !strings.Contains(v, "\r\n"): // which is read as \n
		return "'" + v + "'", true
	case !strings.ContainsAny(v, "\"\\$"):
		return `"` + strings.NewReplacer("\r", `\r`, "\n", `\n`).Replace(v) + `"`, true
	}
	return "", false
}
