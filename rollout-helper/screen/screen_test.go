package screen

import (
	"bytes"
	"slices"
	"testing"
)

// The last cell of a row pushes nothing aside.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	Plain(&out).Table(" ", [][]Cell{Row("", "A", "B"), Row("", "long", "x"), Row("", "a line by itself")})
	if want := " A     B\n long  x\n a line by itself\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// A long text takes as many rows as it may, and no row is wider than the terminal.
func TestFold(t *testing.T) {
	s := Terminal(&bytes.Buffer{}, 10)
	for text, want := range map[string][]string{
		"":                        {""},
		"short":                   {"short"},
		"exactly":                 {"exactly"},
		"a longer text":           {"a longe", "r text"},
		"a text of three rows":    {"a text ", "of thre", "e rows"},
		"a text of many more ünd": {"a text ", "of many", " more …"},
	} {
		if got := s.Fold(text, 2, 3); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
