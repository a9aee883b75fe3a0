package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// SVG is a picture that is being drawn: no library, since it is a few lines.
// Colours are given so that it reads on a white page and on a dark one.
type SVG struct {
	width, height float64
	body          strings.Builder
}

// The colours: of text and lines, of what is ours, of others in turn, of failures.
const (
	ink  = "#57606a"
	grid = "#8c959f"
	ours = "#1f77b4"
	bad  = "#d1242f"
)

var palette = []string{ours, "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#bcbd22", "#e377c2"}

// NewSVG begins a picture of that many pixels.
func NewSVG(width, height float64) *SVG { return &SVG{width: width, height: height} }

// Text writes; anchor is start, middle or end.
func (s *SVG) Text(x, y float64, anchor, colour, text string) {
	fmt.Fprintf(&s.body, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(text))
}

// Line draws a line; dash may be "".
func (s *SVG) Line(x1, y1, x2, y2 float64, colour, dash string) {
	fmt.Fprintf(&s.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-dasharray="%s"/>`+"\n", x1, y1, x2, y2, colour, dash)
}

// Rect fills a rectangle.
func (s *SVG) Rect(x, y, w, h float64, colour, title string) {
	fmt.Fprintf(&s.body, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`+"\n", x, y, w, h, colour, html.EscapeString(title))
}

// Area fills a polygon, with a title.
func (s *SVG) Area(points [][2]float64, colour, title string) {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintf(&b, "%.1f,%.1f ", p[0], p[1])
	}
	fmt.Fprintf(&s.body, `<polygon points="%s" fill="%s"><title>%s</title></polygon>`+"\n", strings.TrimSpace(b.String()), colour, html.EscapeString(title))
}

// Dot marks a point.
func (s *SVG) Dot(x, y, r float64, colour string) {
	fmt.Fprintf(&s.body, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/>`+"\n", x, y, r, colour)
}

// String is the whole picture.
func (s *SVG) String() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12" stroke-width="1.5">`+"\n", s.width, s.height, s.width, s.height) +
		s.body.String() + "</svg>\n"
}

// Series is one line of a plot.
type Series struct {
	Name string
	X, Y []float64
}

// LogLog plots series over two logarithmic axes. What grows linearly rises by
// one decade in one.
func LogLog(title, xName, yName string, series []Series) *SVG {
	s := NewSVG(720, 420)
	left, right, top, bottom := 80.0, 540.0, 40.0, 360.0
	lo := [2]float64{math.Inf(1), math.Inf(1)}
	hi := [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, l := range series {
		for i := range l.X {
			for axis, v := range [2]float64{math.Log10(l.X[i]), math.Log10(l.Y[i])} {
				lo[axis], hi[axis] = min(lo[axis], math.Floor(v)), max(hi[axis], math.Ceil(v))
			}
		}
	}
	x := func(v float64) float64 { return left + (math.Log10(v)-lo[0])/max(hi[0]-lo[0], 1)*(right-left) }
	y := func(v float64) float64 {
		return bottom - (math.Log10(v)-lo[1])/max(hi[1]-lo[1], 1)*(bottom-top)
	}
	s.Text(left, 22, "start", ink, title)
	for d := lo[0]; d <= hi[0]; d++ {
		v := math.Pow(10, d)
		s.Line(x(v), top, x(v), bottom, grid, "1 4")
		s.Text(x(v), bottom+18, "middle", ink, number(v))
	}
	for d := lo[1]; d <= hi[1]; d++ {
		v := math.Pow(10, d)
		s.Line(left, y(v), right, y(v), grid, "1 4")
		s.Text(left-8, y(v)+4, "end", ink, number(v))
	}
	s.Text((left+right)/2, bottom+40, "middle", ink, xName)
	s.Text(left-60, top-8, "start", ink, yName)
	for i, l := range series {
		colour := palette[i%len(palette)]
		for j := range l.X {
			s.Dot(x(l.X[j]), y(l.Y[j]), 3.5, colour)
			if j > 0 {
				s.Line(x(l.X[j-1]), y(l.Y[j-1]), x(l.X[j]), y(l.Y[j]), colour, "")
			}
		}
		s.Rect(right+16, top+20*float64(i), 12, 12, colour, l.Name)
		s.Text(right+34, top+20*float64(i)+11, "start", ink, l.Name)
	}
	return s
}

// Bar is one bar of a chart, with a word at its end.
type Bar struct {
	Name   string
	Value  float64
	Text   string
	Colour string // "" for ours
}

// Bars draws bars from the left, longest scale 0 to the largest value.
func Bars(title string, bars []Bar) *SVG {
	const row = 24.0
	s := NewSVG(800, 50+row*float64(len(bars)))
	most := 0.0
	for _, b := range bars {
		most = max(most, b.Value)
	}
	s.Text(10, 22, "start", ink, title)
	for i, b := range bars {
		y := 38 + row*float64(i)
		colour := b.Colour
		if colour == "" {
			colour = ours
		}
		s.Text(200, y+13, "end", ink, b.Name)
		width := 0.0
		if most > 0 {
			width = 400 * b.Value / most
		}
		s.Rect(210, y, max(width, 1), 17, colour, b.Text)
		s.Text(218+width, y+13, "start", ink, b.Text)
	}
	return s
}

// number writes a power of ten, or any number, as short as it goes.
func number(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.4g", v), ".") }
