package advice

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// TestAllIsTried holds that everything that a message recommends is in one of the
// tables, and that these have nothing else. So a new remedy needs a line there.
func TestAllIsTried(t *testing.T) {
	found, names := scan(t), tests(t)
	tried := make(map[string]bool)
	enter := func(advice, table string) {
		tried[advice] = true
		if found[advice] == "" {
			t.Errorf("%q is in the table %s, but no message recommends it", advice, table)
		}
	}
	for _, s := range Spellings {
		enter(s.Advice, "Spellings")
	}
	for _, c := range Commands {
		enter(c.Advice, "Commands")
	}
	for advice, test := range Elsewhere {
		enter(advice, "Elsewhere")
		if !names[test] {
			t.Errorf("%q is to be tried by %s, which is not there", advice, test)
		}
	}
	for advice, why := range Untried {
		if tried[advice] {
			t.Errorf("%q is tried, and in Untried", advice)
		}
		enter(advice, "Untried")
		if why == "" {
			t.Errorf("%q is not tried, and nothing says why", advice)
		}
	}
	for advice, place := range found {
		if !tried[advice] {
			t.Errorf("%s recommends %q: add it to Spellings, Commands, Elsewhere or Untried in test/advice", place, advice)
		}
	}
}

// tests are the names of all tests of the repository.
func tests(t *testing.T) map[string]bool {
	names := make(map[string]bool)
	for _, f := range files(t, ".", "_test.go") {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

var positions = token.NewFileSet()

// files are the parsed files below a directory whose names end so.
func files(t *testing.T, dir, suffix string) (all []*ast.File) {
	t.Helper()
	root := machine.Root()
	err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(path, suffix), suffix == ".go" && strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(positions, path, nil, parser.SkipObjectResolution)
		all = append(all, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// scan finds what the messages of the program recommend, with "…" for what is put in
// when a message is made, and where each stands.
func scan(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	packages := make(map[string]*scanner)
	for _, top := range []string{"units", "generator", "rollout-helper"} {
		for _, f := range files(t, top, ".go") {
			dir := filepath.Dir(positions.Position(f.Pos()).Filename)
			s := packages[dir]
			if s == nil {
				s = &scanner{texts: map[string]ast.Expr{}, funcs: map[string]*ast.FuncDecl{}, remedies: map[string]int{}}
				packages[dir] = s
			}
			s.files = append(s.files, f)
			s.declare(f)
		}
	}
	for _, s := range packages {
		for _, f := range s.files {
			for _, e := range append(s.recommended(f), s.commands(f)...) {
				place := positions.Position(e.Pos())
				rel, _ := filepath.Rel(machine.Root(), place.Filename)
				for _, text := range s.spelled(e) {
					if trimmed := strings.TrimSpace(text); strings.HasSuffix(text, " ") {
						text = trimmed + " …" // more is put behind it elsewhere
					} else {
						text = trimmed
					}
					if strings.Trim(text, "…; ,'") != "" {
						found[text] = fmt.Sprintf("%s:%d", rel, place.Line)
					}
				}
			}
		}
	}
	if len(found) < 50 {
		t.Fatalf("only %d remedies were found", len(found))
	}
	return found
}

// scanner looks through one package.
type scanner struct {
	files    []*ast.File
	texts    map[string]ast.Expr      // constants and variables of the package
	funcs    map[string]*ast.FuncDecl // by name, methods too
	remedies map[string]int           // function → which of its parameters is called remedy
	taken    []ast.Expr               // what recommended has returned
}

// declare takes in the declarations of a file.
func (s *scanner) declare(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			s.funcs[n.Name.Name] = n
			s.parameter(n.Name.Name, n.Type)
		case *ast.AssignStmt:
			for i, right := range n.Rhs {
				if fn, ok := right.(*ast.FuncLit); ok {
					s.parameter(name(n.Lhs[i]), fn.Type)
				}
			}
		case *ast.ValueSpec:
			for i, value := range n.Values {
				s.texts[n.Names[i].Name] = value
			}
		}
		return true
	})
}

// parameter notes which parameter of a function is called remedy.
func (s *scanner) parameter(function string, of *ast.FuncType) {
	at := 0
	for _, field := range of.Params.List {
		for _, n := range field.Names {
			if n.Name == "remedy" {
				s.remedies[function] = at
			}
			at++
		}
	}
}

// name is that of a variable, field, function or method.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func isRemedy(e ast.Expr) bool { return strings.HasSuffix(strings.ToLower(name(e)), "remedy") }

// recommended are the expressions that become a remedy.
func (s *scanner) recommended(f *ast.File) (all []ast.Expr) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if isRemedy(n.Key) {
				all = append(all, n.Value)
			}
		case *ast.CompositeLit:
			if n.Type != nil && name(n.Type) == "shellism" && len(n.Elts) == 2 {
				all = append(all, n.Elts[1])
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if isRemedy(left) && len(n.Lhs) == len(n.Rhs) {
					all = append(all, n.Rhs[i])
				}
			}
		case *ast.CallExpr:
			if at, ok := s.remedies[name(n.Fun)]; ok && at < len(n.Args) {
				all = append(all, n.Args[at])
			}
		case *ast.FuncDecl:
			all = append(all, returned(n)...)
		}
		return true
	})
	s.taken = append(s.taken, all...)
	return all
}

// returned is what a function returns as its result remedy, or as its only one if it
// is called so.
func returned(fn *ast.FuncDecl) (all []ast.Expr) {
	at := -1
	if fn.Type.Results != nil {
		n := 0
		for _, field := range fn.Type.Results.List {
			for _, result := range field.Names {
				if isRemedy(result) {
					at = n
				}
				n++
			}
		}
	}
	if slices.Contains(remedial, fn.Name.Name) {
		at = 0
	}
	if at < 0 || fn.Body == nil {
		return nil
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok && at < len(r.Results) {
			all = append(all, r.Results[at])
		}
		return true
	})
	return all
}

// remedial are functions whose result is a remedy.
var remedial = []string{"mend", "wider", "remedy", "Sudo", "handOver", "asRoot", "otherUser", "byRoot", "unmask", "remove", "revert", "rerun"}

// command tells a text with a command for a person.
var command = regexp.MustCompile(`\bapp-rollout (run|status|check|rollback|restart|logs|history|show|--help)\b|\bsystemctl (start|stop|restart|status|unmask|edit|revert|daemon-reload)\b|\bjournalctl -[a-z] `)

// commands are the other expressions that have a command for a person in them.
func (s *scanner) commands(f *ast.File) (all []ast.Expr) {
	var above []ast.Node
	ast.Inspect(f, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING || !command.MatchString(lit.Value) {
			return true
		}
		whole := ast.Expr(lit)
		for i := len(above) - 2; i >= 0; i-- {
			if slices.Contains(s.taken, whole) {
				return true
			}
			e, ok := above[i].(ast.Expr)
			if _, call := e.(*ast.CallExpr); !ok || call && !isFormat(e) {
				if _, sum := e.(*ast.BinaryExpr); !sum {
					break
				}
			}
			if kv, ok := above[i].(*ast.KeyValueExpr); ok && name(kv.Key) == "Help" {
				return true
			}
			if _, other := above[i].(*ast.KeyValueExpr); other {
				break
			}
			whole = e
		}
		if !slices.Contains(s.taken, whole) {
			all = append(all, whole)
		}
		return true
	})
	return all
}

// isFormat tells a call that makes a text by a format.
func isFormat(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && slices.Contains([]string{"Sprintf", "Errorf", "Printf"}, name(call.Fun))
}

// isJoin tells problem.Join, which puts two remedies together.
func isJoin(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && name(s.X) == "problem" && s.Sel.Name == "Join"
}

var verb = regexp.MustCompile(`%(\[\d\])?[a-z]`)

// spelled are the texts that an expression can have.
func (s *scanner) spelled(e ast.Expr) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return []string{text}
	case *ast.ParenExpr:
		return s.spelled(e.X)
	case *ast.Ident:
		if value, ok := s.texts[e.Name]; ok {
			return s.spelled(value)
		}
	case *ast.BinaryExpr:
		var all []string
		for _, left := range s.spelled(e.X) {
			for _, right := range s.spelled(e.Y) {
				all = append(all, strings.ReplaceAll(left+right, "……", "…"))
			}
		}
		return all
	case *ast.CallExpr:
		switch {
		case isFormat(e):
			if lit, ok := e.Args[0].(*ast.BasicLit); ok {
				text, _ := strconv.Unquote(lit.Value)
				return []string{verb.ReplaceAllString(text, "…")}
			}
		case isJoin(e.Fun) && len(e.Args) == 2:
			return append(s.spelled(e.Args[0]), s.spelled(e.Args[1])...)
		}
	}
	return []string{"…"}
}
