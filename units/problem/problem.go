// Package problem is how this program says what is wrong: where, and what to do.
package problem

import (
	"cmp"
	"slices"
	"strconv"
)

// Problem is one line for a person: where, what is wrong, and what to do. It
// never holds a value from an .env.
type Problem struct {
	Path string // "" when the problem lies in no file
	Line int    // 1-based; 0 when no single line is to blame
	Text string
}

func (p *Problem) Error() string {
	switch {
	case p.Path == "":
		return p.Text
	case p.Line == 0:
		return p.Path + ": " + p.Text
	}
	return p.Path + ":" + strconv.Itoa(p.Line) + ": " + p.Text
}

// ByLine sorts problems of one file, those of the whole file first.
func ByLine(problems []*Problem) []*Problem {
	slices.SortStableFunc(problems, func(a, b *Problem) int { return cmp.Compare(a.Line, b.Line) })
	return problems
}

// Each takes errors apart that were joined, so that each gets its own line.
func Each(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Each(e)...)
	}
	return all
}
