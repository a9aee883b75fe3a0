package units

import "strconv"

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
