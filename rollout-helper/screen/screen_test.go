package screen

import (
	"bytes"
	"testing"
)

// The last cell of a row pushes nothing aside.
func TestTable(t *testing.T) {
	var out bytes.Buffer
	Plain(&out).Table(" ", [][]Cell{{{"A", ""}, {"B", ""}}, {{"long", ""}, {"x", ""}}, {{"a line by itself", ""}}})
	if want := " A     B\n long  x\n a line by itself\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
