//go:build bench

package bench

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Table is a table of a Markdown page.
type Table struct {
	head []string
	rows [][]string
}

// NewTable begins one with the columns' names.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row adds a row of cells.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// String is the table; columns of numbers stand to the right.
func (t *Table) String() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "--:"
	}
	rule[0] = "---"
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
	return b.String()
}

// ms writes a duration in milliseconds, with as many digits as mean something.
func ms(d time.Duration) string { return millis(float64(d) / float64(time.Millisecond)) }

func millis(v float64) string {
	switch size := math.Abs(v); {
	case size < 10:
		return fmt.Sprintf("%.2f ms", v)
	case size < 1000:
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.2f s", v/1000)
}

// ratio writes how many times as much.
func ratio(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
