package units

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
)

// vector is one .env with what it must give. The two files of vectors came
// from comparing godotenv with systemd 252 and 257 themselves.
type vector struct {
	Name   string            `json:"name"`
	Dotenv string            `json:"dotenv"`
	Base64 string            `json:"dotenv_b64"`
	Values map[string]string `json:"values"`
	Reject string            `json:"reject"`
}

func (v vector) text(t testing.TB) []byte {
	if v.Base64 == "" {
		return []byte(v.Dotenv)
	}
	text, err := base64.StdEncoding.DecodeString(v.Base64)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

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

func TestDotenvVectors(t *testing.T) {
	// What a vector says of the reason, and what our message says of it.
	reasons := map[string]string{
		"syntax error":                     "use single quotes",
		"invalid name":                     "no valid name",
		"not UTF-8":                        "not UTF-8",
		"FOO: not valid UTF-8 for systemd": "FOO holds a character that systemd takes for invalid UTF-8",
	}
	for _, v := range load[[]vector](t, "dotenv.json") {
		t.Run(v.Name, func(t *testing.T) {
			p, err := parse("x.env", v.text(t))
			if v.Reject != "" || v.Values == nil {
				want, ok := reasons[v.Reject]
				if !ok {
					want = v.Reject
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error is %v, want one with %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(p.values, v.Values) {
				t.Errorf("values are %q, want %q", p.values, v.Values)
			}
			// And systemd reads the same back.
			s := Spec{Env: p.values}
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
		if !ok || !validVariable(string(name)) {
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
