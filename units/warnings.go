package units

import "strings"

// warn notes what does not keep the app from running but may surprise.
func (s *Spec) warn(p *parsed) {
	add := func(line int, text string) {
		s.Warnings = append(s.Warnings, &Problem{Path: s.Source.Path, Line: line, Text: text})
	}
	for _, name := range p.inOrder() {
		w := p.written[name]
		for _, text := range surprises(w) {
			add(w.line, name+" "+text)
		}
		switch {
		case name == "PATH":
			add(w.line, "PATH replaces the one that systemd sets for the app")
		case strings.HasPrefix(name, "LD_"):
			add(w.line, name+" changes how every program of the app is loaded")
		}
	}
	command := p.written["SYSTEMD_EXEC_START"]
	if command.expands() {
		add(command.line, "SYSTEMD_EXEC_START has a variable replaced in it, and units and command lines can be read by everybody; let the app read a secret from its environment")
	}
	if s.linkedWord {
		add(command.line, "SYSTEMD_EXEC_START has a path that leads through a link, so that what it names is not frozen; write it relative to the working directory")
	}
	if wd := s.Plan.WorkingDirectory; wd != "/" && !s.released {
		add(p.written["SYSTEMD_WORKING_DIRECTORY"].line, "the code in "+wd+" is not deployed as a release (a new directory, and a link that is moved to it): a restarted old instance runs what lies there by then")
	}
	if s.Plan.User == "root" || s.Plan.User == "0" {
		add(p.written["SYSTEMD_USER"].line, "SYSTEMD_USER makes the app run as root")
	}
	if restart := s.directives["Restart"]; restart != "always" {
		add(p.written["SYSTEMD_RESTART"].line, "SYSTEMD_RESTART lets an instance that ends by itself stay down")
	}
}

// surprises are the places where godotenv reads something else than most
// people mean.
func surprises(w statement) (texts []string) {
	if w.quote != '\'' && strings.Contains(w.text, "$") {
		texts = append(texts, "has a $ that may be replaced; use single quotes to keep it")
	}
	if w.quote == 0 && strings.HasPrefix(w.text, "#") {
		texts = append(texts, "has a value that begins with #, which is no comment there; use quotes, or leave it empty")
	}
	if w.quote == 0 && w.tail != "" && comment(w.text) < len(w.text) {
		texts = append(texts, "has two # on its line, and only the last one begins the comment; use single quotes")
	}
	if w.quote == '"' && strings.HasSuffix(w.text, `\`) {
		texts = append(texts, `has a \" right before its closing quote, which is lost; use single quotes`)
	}
	return texts
}
