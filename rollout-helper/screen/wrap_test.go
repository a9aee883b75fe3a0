package screen

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What does not fit goes on under an indent. A part of a line stays whole if it can, and a
// command that is broken can be typed as it stands.
func TestSay(t *testing.T) {
	for _, c := range []struct {
		width int
		text  string
		want  []string
	}{
		{80, "short", []string{"short"}},
		{12, "twelve chars", []string{"twelve", "  chars"}},
		{20, "what is wrong; try sudo", []string{"what is wrong;", "  try sudo"}},
		{20, "  beside a margin, it has more", []string{"  beside a margin,", "    it has more"}},
		{30, "to go on: app-rollout run shop", []string{"to go on:", "  app-rollout run shop"}},
		{30, "gone; mv /srv/shop/old/.env /srv/shop/.env && ls", []string{"gone;", `  mv /srv/shop/old/.env \`, "  /srv/shop/.env && ls"}},
		{10, "averylongword", []string{"averylong", "  word"}},
		{10, "two\nlines", []string{"two", "lines"}},
		{10, "", []string{""}},
	} {
		var out bytes.Buffer
		Terminal(&out, c.width).Say(c.text)
		if got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"); !slices.Equal(got, c.want) {
			t.Errorf("%q on %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// words that lines are made of.
var vocabulary = []string{"a", "word", "shop@12", "systemctl", "stop", "/srv/shop/releases/20261201120000/.env", ";", "x:", "systemctl restart shop;", "ünï", strings.Repeat("long", 30), "  "}

func someText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(20) {
		b.WriteString(vocabulary[r.IntN(len(vocabulary))])
		if r.IntN(5) > 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// On a terminal no line is longer than it is wide, whatever is printed, and no text is
// lost. Elsewhere a line is one line.
func TestNothingIsTooWide(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(1, seed))
		width := 4 + r.IntN(120)
		text := someText(r)
		var rows [][]Cell
		columns := 1 + r.IntN(10)
		for range r.IntN(8) {
			row := make([]Cell, 1+r.IntN(columns))
			for i := range row {
				row[i] = Cell{Text: fmt.Sprint(r.IntN(1e6)), Color: []string{"", Dim}[r.IntN(2)]}
				if r.IntN(20) == 0 || i == len(row)-1 {
					row[i].Text = someText(r)
				}
				if r.IntN(5) == 0 {
					row[i].Short = "s"
				}
			}
			rows = append(rows, row)
		}
		print := func(s *Screen) string {
			s.Say(s.Paint(Yellow, text))
			s.Table("  ", rows)
			for _, row := range s.Rows(text, 2) {
				s.Println("# " + row)
			}
			return strings.TrimSuffix(s.w.(*bytes.Buffer).String(), "\n")
		}
		if plain := print(Plain(&bytes.Buffer{})); strings.Count(plain, "\n") != 1+len(rows) || strings.Contains(plain, "…") {
			t.Fatalf("seed %d: elsewhere than on a terminal:\n%s", seed, plain)
		}
		shown := print(Terminal(&bytes.Buffer{}, width))
		for line := range strings.SplitSeq(shown, "\n") {
			if Width(line) >= width && width > 8 {
				t.Fatalf("seed %d: %d columns on a terminal of %d: %q\n%s", seed, Width(line), width, line, shown)
			}
		}
		var said bytes.Buffer
		Terminal(&said, width).Say(text)
		bare := func(text string) string { return strings.NewReplacer(" ", "", "\n", "", `\`, "").Replace(text) }
		if bare(said.String()) != bare(text) {
			t.Fatalf("seed %d: %q became\n%s", seed, text, said.String())
		}
	}
}

// A table that is too wide has its short texts; if it still is, its rows go on under their
// first columns.
func TestNarrowTable(t *testing.T) {
	rows := [][]Cell{Row("", "UNIT", "STATE", "GENERATION", "SHARE"), Row("", "shop@1", "active (running)", "12", "50 %")}
	rows[0][2].Short, rows[1][1].Short = "GEN", "running"
	for width, want := range map[int]string{
		80: "UNIT    STATE             GENERATION  SHARE\nshop@1  active (running)  12          50 %\n",
		40: "UNIT    STATE    GEN  SHARE\nshop@1  running  12   50 %\n",
		25: "UNIT    STATE    GEN\n        SHARE\nshop@1  running  12\n        50 %\n",
	} {
		var out bytes.Buffer
		s := Terminal(&out, width)
		s.color = false
		s.Table("", rows)
		if out.String() != want {
			t.Errorf("on %d columns:\n%s", width, out.String())
		}
	}
}

// The last cell of a row goes on below itself.
func TestLongCell(t *testing.T) {
	var out bytes.Buffer
	s := Terminal(&out, 30)
	s.color = false
	s.Table("  ", [][]Cell{Row("", ".env:", "asks for what runs, as it did"), Row("", "    steps of the one above, in ms")})
	if want := "  .env:  asks for what runs,\n         as it did\n      steps of the one above,\n        in ms\n"; out.String() != want {
		t.Errorf("%s", out.String())
	}
}
