package screen

import (
	"slices"
	"strings"
)

// Cell is one field of a table. Short stands for the text where the table would be too
// wide; it may be "".
type Cell struct{ Text, Color, Short string }

// Row is a row of a table in one colour, which may be "".
func Row(color string, texts ...string) []Cell {
	cells := make([]Cell, len(texts))
	for i, text := range texts {
		cells[i] = Cell{Text: text, Color: color}
	}
	return cells
}

// gap is between two columns.
const gap = 2

// leastLast is how many columns the last cell of a row gets at least, if it is long and
// the terminal is not very narrow.
const leastLast = 24

// Table prints rows with aligned columns. The last cell of a row may have any length. On a
// terminal that is too narrow, a table has its short texts; if that does not help, each row
// takes several lines, and so do long last cells.
func (s *Screen) Table(indent string, rows [][]Cell) {
	margin := len(indent)
	widths, last := columns(rows)
	lines, under := s.lines(margin, widths, last)
	if len(lines) > 1 {
		rows = short(rows)
		widths, last = columns(rows)
		lines, under = s.lines(margin, widths, last)
	}
	for _, row := range rows {
		from, at := 0, margin
		for _, to := range lines {
			if from < len(row) {
				s.tableLine(at, row[from:min(to, len(row))], widths[from:], to >= len(row))
			}
			from, at = to, under
		}
	}
}

// short is rows with their short texts.
func short(rows [][]Cell) [][]Cell {
	rows = slices.Clone(rows)
	for i, row := range rows {
		rows[i] = slices.Clone(row)
		for j, c := range row {
			if c.Short != "" {
				rows[i][j].Text = c.Short
			}
		}
	}
	return rows
}

// columns are the widths of the columns, each with 0 for what stands last in its row, and
// the longest of that in rows of all columns.
func columns(rows [][]Cell) (widths []int, last int) {
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if i < len(row)-1 {
				widths[i] = max(widths[i], Width(c.Text))
			}
		}
	}
	for _, row := range rows {
		if len(row) == len(widths) && len(row) > 0 {
			last = max(last, Width(row[len(row)-1].Text))
		}
	}
	return widths, last
}

// lines says how the columns of a table are spread over lines: for each line the number of
// the column after it. Each line but a row's first stands behind a margin of under columns.
func (s *Screen) lines(margin int, widths []int, last int) (ends []int, under int) {
	if !s.TTY || len(widths) == 0 {
		return []int{len(widths)}, margin
	}
	if under = margin + widths[0] + gap; under > s.room()/3 {
		under = min(margin+4, s.room()/3)
	}
	at := margin
	for i, width := range widths {
		if i == len(widths)-1 {
			width = min(last, leastLast, s.room()/2)
		}
		if at+width > s.room() && at > margin {
			ends, at = append(ends, i), under
		}
		at += width + gap
	}
	return append(ends, len(widths)), under
}

// tableLine prints one line of a row behind a margin. If its last cell is the row's last
// one it may be long.
func (s *Screen) tableLine(margin int, cells []Cell, widths []int, ends bool) {
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", margin))
	at := margin
	for i, c := range cells {
		if i == len(cells)-1 && ends {
			break
		}
		text := c.Text
		if s.TTY {
			text = cut(text, s.room()-at)
		}
		b.WriteString(s.Paint(c.Color, text))
		pad := max(0, widths[i]-Width(text)) + gap
		b.WriteString(strings.Repeat(" ", pad))
		at += Width(text) + pad
	}
	if !ends {
		s.Println(strings.TrimRight(b.String(), " "))
		return
	}
	c := cells[len(cells)-1]
	if !s.TTY || at+Width(c.Text) <= s.room() {
		s.Println(strings.TrimRight(b.String()+s.Paint(c.Color, c.Text), " "))
		return
	}
	s.lastCell(b.String(), at, c)
}

// lastCell prints a cell that is too long for the rest of its line, behind what stands
// before it there, which takes so many columns. It goes on below itself or, if there is
// not much room, on lines of its own.
func (s *Screen) lastCell(before string, at int, c Cell) {
	text := strings.TrimLeft(c.Text, " ")
	at += len(c.Text) - len(text)
	under := at
	if strings.TrimSpace(before) == "" {
		under += 2 // a cell by itself
	}
	if at > s.room()/3 {
		if strings.TrimSpace(before) != "" {
			s.Println(strings.TrimRight(before, " "))
		}
		before, at, under = "", 4, 4
	}
	for n, row := range s.wrap(text, at, under) {
		row = strings.TrimLeft(row, " ")
		margin := strings.Repeat(" ", min(under, s.room()/3))
		if n == 0 {
			margin = before + strings.Repeat(" ", max(0, min(at, s.room()/3)-Width(before)))
		}
		s.Println(margin + s.Paint(c.Color, row))
	}
}

// cut shortens a text to so many columns.
func cut(text string, columns int) string {
	if Width(text) <= columns {
		return text
	}
	return string([]rune(text)[:max(0, columns-1)]) + "…"
}
