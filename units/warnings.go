package units

import (
	"strings"

	"app-rollout/units/dotenv"
)

// warn notes what may surprise, but does not keep the app from running.
func (s *Spec) warn(f *dotenv.File) {
	add := func(line int, text, remedy string) {
		s.Warnings = append(s.Warnings, &Problem{Path: s.Source.Path, Line: line, Text: text, Remedy: remedy})
	}
	for _, name := range f.Names() {
		w := f.Written(name)
		for _, p := range w.Surprises() {
			add(w.Line, name+" "+p.Text, p.Remedy)
		}
		switch {
		case name == "PATH":
			add(w.Line, "PATH replaces the one that systemd sets for the app", "")
		case strings.HasPrefix(name, "LD_"):
			add(w.Line, name+" changes how every program of the app is loaded", "")
		}
	}
	for _, name := range []string{"SYSTEMD_EXEC_START", "SYSTEMD_CLUSTER_RELEASE_COMMAND"} {
		command := f.Written(name)
		if command.Expands() {
			add(command.Line, name+" has a variable replaced in it, and units and command lines can be read by everybody", "let the app read a secret from its environment")
		}
		for _, odd := range shellisms(f.Values[name]) {
			add(command.Line, name+" "+odd.text, odd.remedy)
		}
	}
	command := f.Written("SYSTEMD_EXEC_START")
	if s.linkedWord {
		add(command.Line, "SYSTEMD_EXEC_START has a path that leads through a link, so that what it names is not frozen", "write it relative to the working directory")
	}
	if s.linkedEntry {
		add(command.Line, "SYSTEMD_EXEC_START has a cd that leads through a link, so that the code is not frozen", "name that directory in SYSTEMD_WORKING_DIRECTORY, and leave the cd out")
	}
	if s.unixSocket != noSocket && s.Plan.Mode == 1 {
		add(command.Line, "SYSTEMD_EXEC_START names a Unix socket: if the app listens on it, each new instance takes it from those that serve", "let clients use PORT alone, or set SYSTEMD_CLUSTER_MODE=0")
	}
	if wd := s.Plan.WorkingDirectory; s.InPlace() {
		add(f.Written("SYSTEMD_WORKING_DIRECTORY").Line, "the code in "+wd+" is not deployed as a release: an old instance that restarts runs what lies there at that time", "deploy each release into a new directory, and move a link to it")
	}
	idle := func(name, text, remedy string) {
		add(f.Written(name).Line, name+" has no effect without "+text, remedy)
		s.Idle = append(s.Idle, s.Warnings[len(s.Warnings)-1])
	}
	if _, given := f.Values["SYSTEMD_CLUSTER_NODES"]; given && s.Plan.Mode == 0 && s.asked > 1 {
		idle("SYSTEMD_CLUSTER_NODES", "SYSTEMD_CLUSTER_MODE=1: the app is one service", "set that too, or remove the line")
	}
	if _, given := f.Values["SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC"]; given && s.release == nil {
		idle("SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC", "SYSTEMD_CLUSTER_RELEASE_COMMAND", "set that too, or remove the line")
	}
	if s.Plan.User == "root" || s.Plan.User == "0" {
		add(f.Written("SYSTEMD_USER").Line, "SYSTEMD_USER makes the app run as root", "")
	}
	if restart := s.directives["Restart"]; restart != "always" {
		add(f.Written("SYSTEMD_RESTART").Line, "SYSTEMD_RESTART lets an instance that ends by itself stay down", "")
	}
}
