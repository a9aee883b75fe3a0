package bench

import (
	"math"
	"testing"
)

func TestExponent(t *testing.T) {
	size := []float64{1, 10, 100, 1000}
	for _, k := range []float64{0.5, 1, 2} {
		var cost []float64
		for _, s := range size {
			cost = append(cost, 3*math.Pow(s, k))
		}
		if got := Exponent(size, cost); math.Abs(got-k) > 1e-9 {
			t.Errorf("exponent %v, want %v", got, k)
		}
	}
}

func TestLine(t *testing.T) {
	fixed, each := Line([]float64{1, 2, 10}, []float64{7, 9, 25})
	if math.Abs(fixed-5) > 1e-9 || math.Abs(each-2) > 1e-9 {
		t.Errorf("%v + %v n, want 5 + 2 n", fixed, each)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
}
