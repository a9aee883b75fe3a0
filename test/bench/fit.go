package bench

import (
	"math"
	"slices"
)

// Exponent is how cost grows with size: the k of cost ~ size^k with the least squares
// of the logarithms. 1 is linear. All sizes and costs must be positive.
func Exponent(size, cost []float64) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(size))
	for i := range size {
		x, y := math.Log(size[i]), math.Log(cost[i])
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// Line is the straight line that fits the points best: the fixed cost, and the cost
// of each one more.
func Line(size, cost []float64) (fixed, each float64) {
	var sx, sy, sxx, sxy float64
	n := float64(len(size))
	for i := range size {
		x, y := size[i], cost[i]
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	each = (n*sxy - sx*sy) / (n*sxx - sx*sx)
	return (sy - each*sx) / n, each
}

// Median is the middle value, or the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Clone(values)
	slices.Sort(v)
	if m := len(v) / 2; len(v)%2 == 1 {
		return v[m]
	} else {
		return (v[m-1] + v[m]) / 2
	}
}
