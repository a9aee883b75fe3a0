package units

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"app-rollout/units/dotenv"
	"app-rollout/units/dotenv/dotenvtest"
)

func load[T any](t testing.TB, file string) (all T) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// systemd reads back the values that an .env has.
func TestEnvironment(t *testing.T) {
	for _, v := range dotenvtest.Vectors(t) {
		if v.Values == nil {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			s := Spec{Env: v.Values}
			if back := readEnvironmentFile(t, s.Environment()); !maps.Equal(back, v.Values) {
				t.Errorf("systemd reads %q, want %q", back, v.Values)
			}
		})
	}
}

func TestQuotingVectors(t *testing.T) {
	type pair struct{ Value, Quoted string }
	for _, v := range load[[]pair](t, "environment-file-quoting.json") {
		var out bytes.Buffer
		if quoteValue(&out, v.Value); out.String() != v.Quoted {
			t.Errorf("%q is quoted %s, want %s", v.Value, out.String(), v.Quoted)
		}
	}
}

// readEnvironmentFile reads a file as systemd's parse_env_file_internal does
// (env-file.c), as far as a file of ours can use of it: anything else fails.
func readEnvironmentFile(t testing.TB, text []byte) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for len(text) > 0 {
		name, rest, ok := bytes.Cut(text, []byte(`="`))
		if !ok || !dotenv.ValidName(string(name)) {
			t.Fatalf("environment file goes on with %q", text)
		}
		var value []byte
		i := 0
		for ; i < len(rest) && rest[i] != '"'; i++ {
			if rest[i] != '\\' {
				value = append(value, rest[i])
				continue
			}
			// In double quotes a backslash quotes these four, joins lines, and
			// is itself before anything else.
			switch i++; {
			case i == len(rest):
				t.Fatal("environment file ends in a backslash")
			case strings.IndexByte("\"\\`$", rest[i]) >= 0:
				value = append(value, rest[i])
			case rest[i] != '\n':
				value = append(value, '\\', rest[i])
			}
		}
		if i+1 >= len(rest) || rest[i+1] != '\n' {
			t.Fatalf("no line end after the value of %s", name)
		}
		if _, twice := all[string(name)]; twice {
			t.Fatalf("%s stands there twice", name)
		}
		all[string(name)] = string(value)
		text = rest[i+2:]
	}
	return all
}
