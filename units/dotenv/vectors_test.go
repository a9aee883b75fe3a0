package dotenv

import (
	"maps"
	"strings"
	"testing"

	"app-rollout/units/dotenv/dotenvtest"
)

func TestVectors(t *testing.T) {
	// What a vector says of the reason, and what our message says of it.
	reasons := map[string]string{
		"syntax error":                     "use single quotes",
		"invalid name":                     "no valid name",
		"not UTF-8":                        "not UTF-8",
		"FOO: not valid UTF-8 for systemd": "FOO holds a character that systemd takes for invalid UTF-8",
	}
	for _, v := range dotenvtest.Vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			p, err := Parse("x.env", v.Text())
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
			if !maps.Equal(p.Values, v.Values) {
				t.Errorf("values are %q, want %q", p.Values, v.Values)
			}
		})
	}
}
