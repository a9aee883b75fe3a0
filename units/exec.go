package units

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units/problem"
	"app-rollout/units/reach"
)

// splitWords cuts a command into words as a shell would, but expands nothing. '…'
// is taken as it is; in "…" a backslash quotes \ " $ and the backtick; outside of
// quotes it quotes any character. why says what is wrong, "" if nothing is.
func splitWords(s string) (words []string, why string) {
	var word []byte
	in, inWord := byte(0), false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case in == '\'' && c != '\'', in == '"' && c != '"' && c != '\\':
			word = append(word, c)
		case in != 0 && c == in:
			in = 0
		case c == '\\':
			if i+1 == len(s) {
				return nil, "must not end in a backslash"
			}
			inWord = true
			if in == '"' && !strings.ContainsRune("\\\"$`", rune(s[i+1])) {
				word = append(word, c)
				continue
			}
			i++
			word = append(word, s[i])
		case c == '"' || c == '\'':
			in, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, string(word))
				word, inWord = nil, false
			}
		default:
			word, inWord = append(word, c), true
		}
	}
	if in != 0 {
		return nil, "has a quote that is never closed"
	}
	if inWord {
		words = append(words, string(word))
	}
	return words, ""
}

// execWord writes a word so that systemd passes it to the program unchanged,
// whatever quotes, C escapes, specifiers or variables it seems to contain
// (systemd.service(5), "Command lines").
func execWord(word string) string {
	if word != "" && strings.Trim(word, problem.PlainWord) == "" {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(word) + `"`
}

// command checks SYSTEMD_EXEC_START and freezes it.
func (s *Spec) command(l Layout, value string, given bool) *Problem {
	if !given {
		return &Problem{Text: "is missing", Remedy: "let it say what to run"}
	}
	words, why := s.commandWords(l, value)
	if words == nil {
		return why
	}
	s.exec, s.execDir = words, filepath.Dir(words[0])
	// Each look costs some system calls, so only the first words are looked at.
	for _, w := range words[1:min(len(words), 64)] {
		if strings.HasPrefix(w, "/") && len(w) < unix.PathMax && !s.linkedWord {
			s.linkedWord = l.leadsThroughLink(filepath.Dir(w))
		}
	}
	entered, others := scriptPlaces(words)
	s.linkedEntry = slices.ContainsFunc(entered, l.leadsThroughLink)
	s.linkedWord = s.linkedWord || slices.ContainsFunc(others, l.leadsThroughLink)
	s.unixSocket = namesUnixSocket(words)
	return nil
}

// releaseCommand checks SYSTEMD_CLUSTER_RELEASE_COMMAND and freezes it.
func (s *Spec) releaseCommand(l Layout, value string, given bool) *Problem {
	if !given {
		return nil
	}
	words, why := s.commandWords(l, value)
	if words == nil {
		return why
	}
	s.release, s.Plan.ReleaseSec = words, s.releaseSec
	return nil
}

// commandWords are the words of a command, with the path of a program that is there. It
// resolves links in the directory of the program, but never the program's own name: a
// venv's python is a link that must be called by that name. Without words, why says what
// is wrong; it is nil if another setting's problem says it.
func (s *Spec) commandWords(l Layout, value string) (words []string, why *Problem) {
	words, bad := splitWords(value)
	switch {
	case bad != "":
		return nil, &Problem{Text: bad}
	case len(words) == 0 || words[0] == "":
		return nil, &Problem{Text: "must name a program"}
	}
	first := words[0]
	switch {
	case strings.ContainsRune("@-:+!|", rune(first[0])):
		return nil, &Problem{Text: "must not begin with one of systemd's special prefixes @ - : + ! |", Remedy: "begin with the path"}
	case strings.Contains(first, "$"):
		return nil, &Problem{Text: "must not have a $ in the path of its program"}
	case strings.HasPrefix(first, "./"):
		if s.Plan.WorkingDirectory == "" {
			return nil, nil // an error of SYSTEMD_WORKING_DIRECTORY has been reported
		}
		first = s.Plan.WorkingDirectory + "/" + first[2:]
	case first[0] != '/':
		return nil, &Problem{Text: "must begin with an absolute path, or with ./ for a program in the working directory", Remedy: elsewhere(l, first)}
	}
	program, why := resolveProgram(l, first)
	if why != nil {
		if _, apart := s.apart(l); apart != nil && words[0] != first {
			why.Text += ", and " + apart.Text
			why.Remedy = apart.Remedy
		}
		return nil, why
	}
	words[0] = program
	return words, nil
}

// elsewhere names the place of a program that is where a shell would find it, or is "".
func elsewhere(l Layout, name string) (remedy string) {
	for _, dir := range []string{"/usr/local/bin/", "/usr/bin/"} {
		if path := dir + name; !strings.Contains(name, "/") && unitPath(path) && exists(l.Path(path)) {
			return "it is " + path
		}
	}
	return ""
}

// resolveProgram is the path of a program that is there, without links in its
// directory.
func resolveProgram(l Layout, path string) (resolved string, why *Problem) {
	base := filepath.Base(path)
	if strings.HasSuffix(path, "/") || base == "." || base == ".." {
		return "", &Problem{Text: "must name a program, not a directory"}
	}
	dir, err := l.tree().Walk(path[:strings.LastIndexByte(path, '/')])
	if err != nil || dir.Kind() != unix.S_IFDIR {
		return "", &Problem{Text: "must name a program that is there, and its directory is not", Remedy: "correct the path"}
	}
	defer dir.Close()
	mode, err := dir.Entry(base)
	if err != nil {
		return "", &Problem{Text: "must name a program that is there", Remedy: cmp.Or(elsewhere(l, base), "correct the path")}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFLNK:
	case unix.S_IFREG:
		if mode&0o111 == 0 {
			return "", &Problem{Text: "must name a program that can be executed", Remedy: "chmod +x it"}
		}
	default:
		return "", &Problem{Text: "must name a program, not " + reach.KindName(mode&unix.S_IFMT)}
	}
	if !unitPath(dir.Path) {
		return "", &Problem{Text: "lies in a directory whose name systemd could not be given", Remedy: "rename it"}
	}
	return strings.TrimSuffix(dir.Path, "/") + "/" + base, nil
}

// leadsThroughLink says whether a link is on the way to path.
func (l Layout) leadsThroughLink(path string) bool {
	w, err := l.tree().Walk(path)
	if err != nil {
		return false
	}
	defer w.Close()
	return w.Links > 0
}
