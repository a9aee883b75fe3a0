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
	from := d.deploys[0].from.Add(-300 * time.Millisecond)
	to := d.deploys[0].to.Add(600 * time.Millisecond)
	bins := int(to.Sub(from)/bin) + 1
	index := func(nanos int64) int { return int(time.Duration(nanos-from.UnixNano()) / bin) }

	counts := map[string][]float64{}
	var names []string
	total := make([]float64, bins)
	for _, a := range slices.Concat(d.fresh.Answers, d.kept.Answers) {
		i := index(a.End)
		if a.End < from.UnixNano() || i >= bins {
			continue
		}
		// "GENERATION INSTANCE PID"
		f := strings.Fields(a.Label)
		if len(f) < 2 {
			continue
		}
		name := f[0] + " instance " + f[1]
		if counts[name] == nil {
			counts[name] = make([]float64, bins)
			names = append(names, name)
		}
		counts[name][i]++
		total[i]++
	}
	slices.Sort(names)

	s := NewSVG(900, 380)
	left, right, top, bottom := 60.0, 740.0, 130.0, 340.0
	most := slices.Max(total)
	x := func(i float64) float64 { return left + i/float64(bins)*(right-left) }
	y := func(v float64) float64 { return bottom - v/max(most, 1)*(bottom-top) }
	at := func(t time.Time) float64 { return x(float64(t.Sub(from)) / float64(bin)) }
	s.Text(left, 20, "start", ink, fmt.Sprintf("%s: answers in each 25 ms, by generation and instance", title))

	// The old generation's instances are blue, the new one's orange.
	shades := [][]string{{"#9ecae1", "#6baed6"}, {"#fdae6b", "#fd8d3c"}, {"#a1d99b", "#74c476"}}
	used := map[string]int{}
	order := map[string]int{}
	floor := make([]float64, bins)
	for _, name := range names {
		generation, _, _ := strings.Cut(name, " ")
		if _, known := order[generation]; !known {
			order[generation] = len(order)
		}
		colours := shades[order[generation]%len(shades)]
		colour := colours[used[generation]%len(colours)]
		used[generation]++
		var points [][2]float64
		for i := range bins {
			points = append(points, [2]float64{x(float64(i)), y(floor[i] + counts[name][i])}, [2]float64{x(float64(i + 1)), y(floor[i] + counts[name][i])})
		}
		for i := bins - 1; i >= 0; i-- {
			points = append(points, [2]float64{x(float64(i + 1)), y(floor[i])}, [2]float64{x(float64(i)), y(floor[i])})
			floor[i] += counts[name][i]
		}
		s.Area(points, colour, name)
		row := top + 20*float64(slices.Index(names, name))
		s.Rect(right+16, row, 12, 12, colour, name)
		s.Text(right+34, row+11, "start", ink, name)
	}
	// A name goes to the lowest line on which it lies on no other.
	var ends []float64
	for _, m := range marks {
		p := at(m.at)
		s.Line(p, top-4, p, bottom, grid, "3 3")
		level := slices.IndexFunc(ends, func(end float64) bool { return end < p })
		if level < 0 {
			level, ends = len(ends), append(ends, 0)
		}
		ends[level] = p + 7*float64(len(m.name)) + 6
		s.Text(p+2, top-8-12*float64(level), "start", ink, m.name)
	}
	lost := 0
	for _, f := range slices.Concat(d.fresh.Failures, d.kept.Failures) {
		if f.End >= from.UnixNano() && index(f.End) < bins {
			s.Dot(at(time.Unix(0, f.End)), top+6+float64(lost*37%200), 3.5, bad)
			lost++
		}
	}
	row := top + 20*float64(len(names)) + 10
	s.Dot(right+22, row+6, 3.5, bad)
	s.Text(right+34, row+11, "start", ink, fmt.Sprintf("lost: %d", lost))
	s.Line(left, bottom, right, bottom, grid, "")
	every := 250 * time.Millisecond
	for to.Sub(from) > 12*every {
		every *= 2
	}
	for t := time.Duration(0); t < to.Sub(from); t += every {
		p := x(float64(t) / float64(bin))
		s.Line(p, bottom, p, bottom+4, grid, "")
		s.Text(p, bottom+18, "middle", ink, fmt.Sprintf("%.2f s", t.Seconds()))
	}
	return s
}
