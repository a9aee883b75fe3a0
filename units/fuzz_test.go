package units

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"app-rollout/units/dotenv"
	"app-rollout/units/dotenv/dotenvtest"
)

func seed(f *testing.F) {
	for _, v := range dotenvtest.Vectors(f) {
		if text := v.Text(); len(text) < 4096 {
			f.Add(text)
		}
	}
	for _, text := range hostileSettings {
		f.Add([]byte(text))
	}
	f.Add([]byte(dotenvtest.Bomb(3)))
}

// hostileSettings are .env files that try to get more into a unit than one
// directive each.
var hostileSettings = []string{
	"SYSTEMD_EXEC_START=/usr/bin/app a\\\nSYSTEMD_DESCRIPTION='x\\'\n",
	"SYSTEMD_EXEC_START=\"/usr/bin/app\\nExecStartPre=+/bin/sh\"\n",
	"SYSTEMD_EXEC_START='/usr/bin/app\nExecStartPre=/bin/sh'\n",
	"SYSTEMD_EXEC_START='/usr/bin/app ; /bin/sh'\nSYSTEMD_DESCRIPTION='[Service]'\n",
	"SYSTEMD_EXEC_START='/usr/bin/app %n %% $A ${A} $$ \"a b\" \\x \\'\n",
	"SYSTEMD_EXEC_START='/usr/bin/app \\\\ \"\\\\\" \\\" \"a\\n\"'\nSYSTEMD_DESCRIPTION=\"a\\rb\"\n",
	"SYSTEMD_EXEC_START=/usr/bin/app\nSYSTEMD_AFTER='a.service\u2028User=root'\nSYSTEMD_CPU_QUOTA='5%\u0085'\n",
	"SYSTEMD_EXEC_START=/usr/bin/app\nSYSTEMD_CLUSTER_MODE=1\nSYSTEMD_CLUSTER_NODES=auto\nPORT=80\nSYSTEMD_DESCRIPTION=%i\n",
	"SYSTEMD_EXEC_START='@/usr/bin/app'\n", "SYSTEMD_EXEC_START=' +/usr/bin/app'\n",
	"SYSTEMD_EXEC_START='./app \"\"'\nSYSTEMD_WORKING_DIRECTORY='/srv/a b%c'\nSYSTEMD_READ_WRITE_PATHS='\"/srv/a b%c\" ./'\n",
}

// FuzzUnit: from bytes to unit and environment file. Whatever stands in the
// .env, the unit has the directives of the table and no other, each where it
// belongs; the command and the variables arrive as they are; no value of a
// variable that is no setting stands in the unit or in a message.
func FuzzUnit(f *testing.F) {
	seed(f)
	l := tree(f, map[string]string{"/usr/bin/app": "#!", "/srv/a b%c/app": "#!"})
	allowed := directives()
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1500 || dotenv.Costly(text) {
			return // the unit reader takes no longer lines; the child is slow
		}
		text = append([]byte("CANARY="+dotenvtest.Canary+"\n"), text...)
		for uid, user := range map[uint32]string{0: "root", uint32(alice): "alice"} {
			s, err := l.Check(&Source{App: "shop", Path: "/srv/a b%c/.env", Linked: true, UID: uid, User: user, Text: text})
			if err != nil {
				// The replaced canary may stand in a setting, never in a message.
				if strings.Contains(err.Error(), dotenvtest.Canary) {
					t.Fatalf("a value stands in %s", err)
				}
				continue
			}
			for _, w := range s.Warnings {
				if strings.Contains(w.Error(), dotenvtest.Canary) {
					t.Fatalf("a value stands in %s", w)
				}
			}
			out := s.Unit("/var/lib/app-rollout/shop/generations/1")
			holdsUnit(t, s, out, allowed)
			if !strings.Contains(string(text), "$") && strings.Contains(out, dotenvtest.Canary) {
				t.Fatalf("a secret stands in\n%s", out)
			}
			if back := readEnvironmentFile(t, s.Environment()); !maps.Equal(back, s.Env) {
				t.Fatalf("systemd reads %q, meant is %q", back, s.Env)
			}
		}
	})
}

// directives are all that may stand in a unit, as Section.Directive.
func directives() map[string]bool {
	allowed := make(map[string]bool)
	for _, s := range settings {
		allowed[s.Section+"."+s.Directive] = true
	}
	for _, d := range strings.Fields(`Unit.Documentation Unit.SourcePath Unit.Wants Unit.RequiresMountsFor Unit.StartLimitIntervalSec
		Service.NotifyAccess Service.TimeoutStartSec Service.DynamicUser Service.Environment Service.EnvironmentFile Service.KillMode
		Service.AmbientCapabilities Service.CapabilityBoundingSet Service.Slice
		Service.SyslogIdentifier Service.LogExtraFields`) {
		allowed[d] = true
	}
	for _, h := range hardening {
		name, _, _ := strings.Cut(h, "=")
		allowed["Service."+name] = true
	}
	return allowed
}

// holdsUnit holds a rendered unit to what the spec means.
func holdsUnit(t *testing.T, s *Spec, out string, allowed map[string]bool) {
	t.Helper()
	options, err := unit.DeserializeOptions(strings.NewReader(out))
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	root := s.Source.UID == 0
	seen := make(map[string]int)
	for _, o := range options {
		name := o.Section + "." + o.Name
		seen[name]++
		switch {
		case !allowed[name]:
			t.Fatalf("%s stands in\n%s", name, out)
		case o.Name == "User" && !root && o.Value != "alice":
			t.Fatalf("User=%s of alice's .env", o.Value)
		case o.Name == "SyslogIdentifier" && o.Value != "shop":
			t.Fatalf("the lines of shop are called %s", o.Value)
		case o.Name == "LogExtraFields" && o.Value != "APP_ROLLOUT_APP=shop" && o.Value != "APP_ROLLOUT_SOURCE=/var/lib/app-rollout/shop/generations/1/env":
			t.Fatalf("the lines of shop are marked %s", o.Value)
		case o.Name == "AmbientCapabilities" && !root:
			t.Fatal("a capability for alice's .env")
		case o.Name == "ExecStart":
			if words := systemdWords(t, o.Value); !slices.Equal(words, s.exec) {
				t.Fatalf("systemd runs %q, meant is %q", words, s.exec)
			}
		}
	}
	if seen["Service.ExecStart"] != 1 || seen["Service.User"] != 1 || seen["Service.EnvironmentFile"] != 1 {
		t.Fatalf("directives are missing or there twice:\n%s", out)
	}
}

// systemdWords reads an ExecStart= as systemd 252 does: extract_first_word
// with EXTRACT_UNQUOTE|EXTRACT_CUNESCAPE (extract-word.c), specifiers
// (unit-printf.c), and replace_env_argv (exec-util.c). What would mean more
// than itself fails.
func systemdWords(t testing.TB, line string) (words []string) {
	t.Helper()
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		if line[0] == ';' && (len(line) == 1 || line[1] == ' ') {
			t.Fatalf("a second command begins in %q", line)
		}
		var word []byte
		quote := byte(0)
		i := 0
		for ; i < len(line); i++ {
			c := line[i]
			switch {
			case c == '\\':
				i++
				if i == len(line) || strings.IndexByte(`\"'`, line[i]) < 0 {
					t.Fatalf("an escape that is not ours in %q", line)
				}
				word = append(word, line[i])
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote == 0 && (c == ' ' || c == '\t'):
				goto end
			case c == '%' || c == '$':
				if i++; i == len(line) || line[i] != c {
					t.Fatalf("a single %c in %q", c, line)
				}
				word = append(word, c)
			default:
				word = append(word, c)
			}
		}
	end:
		if quote != 0 {
			t.Fatalf("an open quote in %q", line)
		}
		words = append(words, string(word))
		line = line[i:]
	}
	if len(words) == 0 || words[0] == "" || strings.ContainsRune("@-:+!|", rune(words[0][0])) {
		t.Fatalf("a prefix in %q", words)
	}
	return words
}
