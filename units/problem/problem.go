// Package problem is how this program says what is wrong: where, what, and what
// to do about it.
package problem

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Problem is what is wrong, for a person. It never holds a value from an .env.
type Problem struct {
	Path   string `json:"path,omitempty"`   // "" when the problem lies in no file
	Line   int    `json:"line,omitempty"`   // 1-based; 0 when no single line is to blame
	Text   string `json:"text"`             // what is wrong
	Remedy string `json:"remedy,omitempty"` // what to do about it; "" when the text implies it
}

// Error is all of it on one line.
func (p *Problem) Error() string { return Join(p.What(), p.Remedy) }

// What is where and what is wrong, without what to do about it.
func (p *Problem) What() string {
	switch {
	case p.Path == "":
		return p.Text
	case p.Line == 0:
		return p.Path + ": " + p.Text
	}
	return p.Path + ":" + strconv.Itoa(p.Line) + ": " + p.Text
}

// AsProblem is p itself: see Of.
func (p *Problem) AsProblem() *Problem { return p }

// Of is an error as a problem. An error with a method AsProblem knows its remedy
// itself; joined errors become one problem, on one line.
func Of(err error) *Problem {
	all := Each(err)
	if len(all) == 1 {
		if own, ok := all[0].(interface{ AsProblem() *Problem }); ok {
			return own.AsProblem()
		}
		return &Problem{Text: all[0].Error(), Remedy: Sudo(all[0])}
	}
	var one Problem
	for _, err := range all {
		p := Of(err)
		one.Text = Join(one.Text, p.What())
		one.Remedy = Join(one.Remedy, p.Remedy)
	}
	return &one
}

// Join puts two parts of a line together; either may be empty. A full stop at the end of
// the first one, as systemd's own messages have it, goes.
func Join(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	}
	return strings.TrimSuffix(a, ".") + "; " + b
}

// Sudo is the remedy for an error that root would not get, "" for any other.
func Sudo(err error) string {
	if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
		return "try sudo"
	}
	return ""
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
