package dotenv

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/joho/godotenv"

	"app-rollout/units/dotenv/dotenvtest"
)

// FuzzParse: what we know of a text beforehand is what godotenv then makes of
// it, and no message holds a piece of it.
func FuzzParse(f *testing.F) {
	for _, v := range dotenvtest.Vectors(f) {
		if text := v.Text(); len(text) < 4096 {
			f.Add(text)
		}
	}
	f.Add([]byte(dotenvtest.Bomb(3)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 || strings.Count(string(text), "$") > trustedDollars || invalidUTF8(text) >= 0 {
			return // the rest is refused, or parsed apart
		}
		all, bad, _ := scan(text)
		values, err := godotenv.UnmarshalBytes(text)
		if (bad != 0) != (err != nil) {
			t.Fatalf("we stop at line %d, godotenv with %v", bad, err)
		}
		if err != nil {
			return
		}
		names := make(map[string]bool)
		for _, st := range all {
			names[st.name] = true
		}
		if !slices.Equal(slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(values))) {
			t.Fatalf("we see %v, godotenv %q", names, values)
		}
		sum := 0
		for _, v := range values {
			sum += len(v)
		}
		if bound := grown(all, 1<<30); sum > bound {
			t.Fatalf("values have %d bytes, and we thought no more than %d", sum, bound)
		}
		for _, st := range all {
			if !st.Expands() && st.quote == '\'' && values[st.name] != st.text && st == last(all, st.name) {
				t.Fatalf("%s is %q, and we thought %q", st.name, values[st.name], st.text)
			}
		}
	})
}

func last(all []Assignment, name string) Assignment {
	for _, st := range slices.Backward(all) {
		if st.name == name {
			return st
		}
	}
	return Assignment{}
}
