package rollout

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"app-rollout/units"
	"app-rollout/units/problem"
)

// rights makes of an error about a file of ours one that says what mends it. The services
// have no CAP_DAC_OVERRIDE (capabilities(7)), so that they cannot write where somebody
// has made another user the owner.
func rights(l units.Layout, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	all := problem.Each(err)
	for i, one := range all {
		if owned := notRoots(l, one); owned != "" {
			all[i] = &problem.Problem{Path: owned, Text: "does not belong to root, and cannot be written", Remedy: "chown -R root: " + problem.Shell(owned)}
		}
	}
	return errors.Join(all...)
}

// notRoots is the first directory or file on the way to that of an error, below those of
// this package, that is another user's; "" if there is none.
func notRoots(l units.Layout, err error) string {
	path := ""
	var one *fs.PathError
	var two *os.LinkError
	switch {
	case errors.As(err, &one):
		path = one.Path
	case errors.As(err, &two):
		path = two.New
	}
	for _, top := range []string{l.Path(units.StateDir), l.Path(units.RunDir)} {
		rest, below := strings.CutPrefix(path, top+"/")
		if !below {
			continue
		}
		for at, name := range append([]string{""}, strings.Split(rest, "/")...) {
			if at > 0 {
				top += "/" + name
			}
			var stat unix.Stat_t
			if unix.Lstat(top, &stat) == nil && stat.Uid != 0 {
				return top
			}
		}
	}
	return ""
}
