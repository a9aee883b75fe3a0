package units

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"app-rollout/units/dotenv"
	"app-rollout/units/problem"
)

// Spec is what an .env asks for, after all checks: everything that a generation is
// made of, except its number.
type Spec struct {
	App      string
	Plan     Plan
	Source   *Source
	Env      map[string]string // exactly the instances' variables
	Warnings []*Problem        // what may surprise; nothing that keeps the app from running
	Idle     []*Problem        // those of them that tell of a setting without effect: a run says them too

	asked       int               // the number of instances in mode 1
	directives  map[string]string // of the unit, as text that needs no more quoting
	exec        []string          // the command's words
	release     []string          // the release command's words
	releaseSec  int               // what it would have
	execDir     string            // where its program lies, links resolved
	writable    []string          // ReadWritePaths=
	dynamic     bool              // DynamicUser=
	linkedWord  bool              // a word of the command leads through a link
	linkedEntry bool              // the script of a shell enters a directory through a link
	unixSocket  unixSocket        // how the command names a Unix socket
	released    bool              // a link led to the working directory, as in a deployment by releases
	defaulted   bool              // the working directory is where the real .env lies, because no setting names one
}

// InPlace says that the code lies in a working directory that no link led to, so that a
// deployment most likely overwrites it.
func (s *Spec) InPlace() bool { return s.Plan.WorkingDirectory != "/" && !s.released }

func (s *Spec) set(directive, value string) { s.directives[directive] = value }

// Read is what app's .env asks for. It writes nothing.
func (l Layout) Read(app string) (*Spec, error) {
	src, err := l.ReadSource(app)
	if err != nil {
		return nil, err
	}
	if err := l.Shadows(app); err != nil {
		return nil, err
	}
	return l.Check(src)
}

// Asked is Read, whether or not the app can have the names of its units.
func (l Layout) Asked(app string) (*Spec, error) {
	src, err := l.ReadSource(app)
	if err != nil {
		return nil, err
	}
	return l.Check(src)
}

// Check is what the text of an .env asks for. The error is every *Problem that
// was found, joined, in the order of the lines.
func (l Layout) Check(src *Source) (*Spec, error) {
	f, err := dotenv.Parse(src.Path, src.Text)
	if err != nil {
		return nil, err
	}
	s := &Spec{App: src.App, Source: src, Env: f.Values, directives: map[string]string{}}
	var problems []*Problem
	refuse := func(name string, p *Problem) {
		problems = append(problems, &Problem{Path: src.Path, Line: f.Written(name).Line, Text: name + " " + p.Text, Remedy: p.Remedy})
	}
	for _, name := range f.Names() {
		if _, known := setting(name); !known && strings.HasPrefix(name, prefix) {
			remedy := "see: man app-rollout.env"
			if near := nearest(name); near != "" {
				remedy = "did you mean " + near + "?"
			}
			refuse(name, &Problem{Text: "is no setting", Remedy: remedy})
		}
	}
	for _, last := range []bool{false, true} {
		for _, set := range settings {
			if set.last != last {
				continue
			}
			value, given := f.Values[set.Name]
			var why *Problem
			if given {
				why = s.unfit(set, value, f.Written(set.Name))
			}
			if why == nil {
				why = set.enter(s, l, value, given)
			}
			if why != nil {
				refuse(set.Name, why)
			}
		}
	}
	s.asked = s.Plan.Nodes
	if s.Plan.Mode == 0 {
		s.Plan.Nodes = 1
	}
	for _, c := range s.contradictions() {
		refuse(c.name, &c.Problem)
	}
	if len(problems) > 0 {
		return nil, joined(problems)
	}
	s.warn(f)
	problem.ByLine(s.Warnings)
	return s, nil
}

// joined are the problems as one error, in the order of their lines.
func joined(problems []*Problem) error {
	var all []error
	for _, p := range problem.ByLine(problems) {
		all = append(all, p)
	}
	return errors.Join(all...)
}

// unfit says why a value is refused before the check of its setting sees it.
func (s *Spec) unfit(set Setting, value string, written dotenv.Assignment) *Problem {
	switch {
	case set.Root && s.Source.UID != 0:
		return &Problem{Text: "can only be set in an .env that belongs to root", Remedy: s.asRoot(set)}
	case strings.TrimSpace(value) == "":
		return &Problem{Text: "is empty", Remedy: "give it a value or remove the line"}
	case written.HasDefault():
		return &Problem{Text: dotenv.NoDefault, Remedy: "write the value out"}
	case strings.ContainsFunc(value, unicode.IsControl):
		return &Problem{Text: "must not hold control characters or line breaks"}
	case !set.Expands && written.Expands():
		return &Problem{Text: "must not have a variable replaced in it", Remedy: "write the value out"}
	}
	return nil
}

// asRoot says how root gives an app what its .env may not ask for. To make the file
// root's helps only if nobody else's directory or link is on the way to it. With
// --force, systemctl makes a drop-in for a unit that there is not yet, too.
func (s *Spec) asRoot(set Setting) string {
	dropIn := "remove the line and set " + set.Directive + "= in a drop-in: systemctl edit --force " + s.Plan.Unit(s.App)
	if !s.Source.rootsWay {
		return dropIn
	}
	return fmt.Sprintf("chown root %s, and set SYSTEMD_USER=%s in it, or %s", problem.Shell(s.Source.Path), s.Source.owner(), dropIn)
}

// maxRestarts is how many starts a second all instances of an app together may
// cost PID 1 if each ends at once. PID 1 can do some hundreds.
const maxRestarts = 64

type contradiction struct {
	name string
	Problem
}

// contradictions are settings that are valid by themselves but not together.
func (s *Spec) contradictions() (all []contradiction) {
	if s.Plan.HealthPath != "" && s.Plan.Port == 0 {
		all = append(all, contradiction{"SYSTEMD_CLUSTER_HEALTH_PATH", Problem{Text: "needs PORT, to know where to ask"}})
	}
	if s.Plan.HealthHost != "" && s.Plan.HealthPath == "" {
		all = append(all, contradiction{"SYSTEMD_CLUSTER_HEALTH_HOST", Problem{Text: "needs SYSTEMD_CLUSTER_HEALTH_PATH, to know what to ask for"}})
	}
	if ms, err := strconv.Atoi(strings.TrimSuffix(s.directives["RestartSec"], "ms")); err == nil && s.Source.UID != 0 && s.Plan.Nodes*1000 > ms*maxRestarts {
		all = append(all, contradiction{"SYSTEMD_RESTART_SEC", Problem{Text: fmt.Sprintf("must be %d ms or more for %d instances, since the .env is not root's", s.Plan.Nodes*1000/maxRestarts+1, s.Plan.Nodes)}})
	}
	if s.unixSocket == boundSocket && s.Plan.Mode == 1 && s.Plan.Port == 0 {
		all = append(all, contradiction{"SYSTEMD_EXEC_START", Problem{
			Text:   "listens on a Unix socket, which each new instance takes from those that serve: if it fails, nothing serves",
			Remedy: "let it listen on PORT, or set SYSTEMD_CLUSTER_MODE=0, or give each instance a path of its own, with $SYSTEMD_INSTANCE in a sh -c",
		}})
	}
	if s.dynamic && s.directives["PrivateTmp"] == "no" {
		all = append(all, contradiction{"SYSTEMD_PRIVATE_TMP", Problem{Text: "has no effect for a dynamic user", Remedy: "set SYSTEMD_USER too"}})
	}
	return all
}

// Digest tells generations apart: two specs have the same digest exactly if nothing
// that would be frozen differs. How this version of the package renders a unit does
// not count, so that no app counts as changed after an upgrade.
func (s *Spec) Digest() string {
	return s.digest(string(s.Source.Text), s.Plan)
}

// Unsized is the digest without the number of instances. If two specs have the same
// one, starting or stopping instances turns one into the other.
func (s *Spec) Unsized() string {
	plan, env := s.Plan, make(map[string]string, len(s.Env))
	plan.Nodes = 0
	for name, value := range s.Env {
		if name != "SYSTEMD_CLUSTER_NODES" {
			env[name] = value
		}
	}
	return s.digest(env, plan)
}

// digest is that of the variables, in some form, of a plan, and of the rest. An .env without
// a release command has the digest that it had before there were any.
func (s *Spec) digest(variables any, plan Plan) string {
	parts := []any{variables, s.Source.Path, s.Source.UID, plan, s.exec, s.writable, s.dynamic, s.directives}
	if s.release != nil {
		parts = append(parts, s.release)
	}
	return digest(parts...)
}

func digest(parts ...any) string {
	data, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings, numbers and maps of them
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
