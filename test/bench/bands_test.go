//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// mark is something that began at a time.
type mark struct {
	at   time.Time
	name string
}

const bin = 25 * time.Millisecond

// bands draws the first deploy of a series: time across, answers on fresh and
// kept connections by generation and instance as stacked bands, marks as lines,
// failures as red dots.
func bands(title string, d *deploySeries, marks []mark) *SVG {
	p := newBandPlot(d)
	p.Text(p.left, 20, "start", ink, fmt.Sprintf("%s: answers in each 25 ms, by generation and instance", title))
	p.areas()
	p.marks(marks)
	p.failures(d)
	p.axis()
	return p.SVG
}

// bandPlot is such a drawing.
type bandPlot struct {
	*SVG
	left, right, top, bottom float64
	from, to                 time.Time
	bins                     int
	names                    []string             // "GENERATION instance INSTANCE", sorted
	counts                   map[string][]float64 // of each name, the answers in each bin
	most                     float64              // answers in a bin
}

func newBandPlot(d *deploySeries) *bandPlot {
	p := &bandPlot{
		SVG: NewSVG(900, 380), left: 60, right: 740, top: 130, bottom: 340,
		from:   d.deploys[0].from.Add(-300 * time.Millisecond),
		to:     d.deploys[0].to.Add(600 * time.Millisecond),
		counts: map[string][]float64{},
	}
	p.bins = int(p.to.Sub(p.from)/bin) + 1
	total := make([]float64, p.bins)
	for _, a := range slices.Concat(d.fresh.Answers, d.kept.Answers) {
		i, inside := p.bin(a.End)
		// "GENERATION INSTANCE PID"
		f := strings.Fields(a.Label)
		if !inside || len(f) < 2 {
			continue
		}
		name := f[0] + " instance " + f[1]
		if p.counts[name] == nil {
			p.counts[name] = make([]float64, p.bins)
			p.names = append(p.names, name)
		}
		p.counts[name][i]++
		total[i]++
	}
	slices.Sort(p.names)
	p.most = slices.Max(total)
	return p
}

// bin is where a moment in Unix nanoseconds lies, if it is in the drawing.
func (p *bandPlot) bin(nanos int64) (i int, inside bool) {
	i = int(time.Duration(nanos-p.from.UnixNano()) / bin)
	return i, nanos >= p.from.UnixNano() && i < p.bins
}

func (p *bandPlot) x(bins float64) float64 { return p.left + bins/float64(p.bins)*(p.right-p.left) }
func (p *bandPlot) y(answers float64) float64 {
	return p.bottom - answers/max(p.most, 1)*(p.bottom-p.top)
}
func (p *bandPlot) at(t time.Time) float64 { return p.x(float64(t.Sub(p.from)) / float64(bin)) }

// areas stacks the bands and names their colours.
func (p *bandPlot) areas() {
	// The old generation's instances are blue, the new one's orange.
	shades := [][]string{{"#9ecae1", "#6baed6"}, {"#fdae6b", "#fd8d3c"}, {"#a1d99b", "#74c476"}}
	used := map[string]int{}
	order := map[string]int{}
	floor := make([]float64, p.bins)
	for n, name := range p.names {
		generation, _, _ := strings.Cut(name, " ")
		if _, known := order[generation]; !known {
			order[generation] = len(order)
		}
		colours := shades[order[generation]%len(shades)]
		colour := colours[used[generation]%len(colours)]
		used[generation]++
		var points [][2]float64
		for i := range p.bins {
			level := p.y(floor[i] + p.counts[name][i])
			points = append(points, [2]float64{p.x(float64(i)), level}, [2]float64{p.x(float64(i + 1)), level})
		}
		for i := p.bins - 1; i >= 0; i-- {
			points = append(points, [2]float64{p.x(float64(i + 1)), p.y(floor[i])}, [2]float64{p.x(float64(i)), p.y(floor[i])})
			floor[i] += p.counts[name][i]
		}
		p.Area(points, colour, name)
		row := p.top + 20*float64(n)
		p.Rect(p.right+16, row, 12, 12, colour, name)
		p.Text(p.right+34, row+11, "start", ink, name)
	}
}

// marks draws the marks, each name on the lowest line on which it lies on no other.
func (p *bandPlot) marks(marks []mark) {
	var ends []float64
	for _, m := range marks {
		x := p.at(m.at)
		p.Line(x, p.top-4, x, p.bottom, grid, "3 3")
		level := slices.IndexFunc(ends, func(end float64) bool { return end < x })
		if level < 0 {
			level, ends = len(ends), append(ends, 0)
		}
		ends[level] = x + 7*float64(len(m.name)) + 6
		p.Text(x+2, p.top-8-12*float64(level), "start", ink, m.name)
	}
}

func (p *bandPlot) failures(d *deploySeries) {
	lost := 0
	for _, f := range slices.Concat(d.fresh.Failures, d.kept.Failures) {
		if _, inside := p.bin(f.End); inside {
			p.Dot(p.at(time.Unix(0, f.End)), p.top+6+float64(lost*37%200), 3.5, bad)
			lost++
		}
	}
	row := p.top + 20*float64(len(p.names)) + 10
	p.Dot(p.right+22, row+6, 3.5, bad)
	p.Text(p.right+34, row+11, "start", ink, fmt.Sprintf("lost: %d", lost))
}

func (p *bandPlot) axis() {
	p.Line(p.left, p.bottom, p.right, p.bottom, grid, "")
	every := 250 * time.Millisecond
	for p.to.Sub(p.from) > 12*every {
		every *= 2
	}
	for t := time.Duration(0); t < p.to.Sub(p.from); t += every {
		x := p.x(float64(t) / float64(bin))
		p.Line(x, p.bottom, x, p.bottom+4, grid, "")
		p.Text(x, p.bottom+18, "middle", ink, fmt.Sprintf("%.2f s", t.Seconds()))
	}
}
