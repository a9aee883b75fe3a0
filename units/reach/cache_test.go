package reach

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// tree is a root with files; a text that begins with "-> " makes a link.
func tree(t *testing.T, files map[string]string) Tree {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); ok && err == nil {
			err = os.Symlink(target, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Root: root}
}

// However many directories there are, and however many walks at once, the cache
// stays small and no other descriptor stays open.
func TestCacheIsBounded(t *testing.T) {
	files := map[string]string{}
	var apps []string
	for i := range maxCached / 2 { // each in three directories of its own
		app := fmt.Sprintf("app%d", i)
		apps = append(apps, app)
		files["/etc/app-rollout/"+app+".env"] = "-> /srv/" + app + "/current/.env"
		files["/srv/"+app+"/current"] = "-> releases/1"
		files["/srv/"+app+"/releases/1/.env"] = "A=" + app + "\n"
	}
	l := tree(t, files)
	l.Cache = NewCache()
	open := func() (n int) {
		all, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range all {
			if path, _ := os.Readlink(fd); strings.HasPrefix(path, l.Root) {
				n++
			}
		}
		return n
	}
	var walkers sync.WaitGroup
	for range 4 {
		walkers.Go(func() {
			for _, app := range apps {
				w, err := l.Walk("/etc/app-rollout/" + app + ".env")
				if err != nil || w.Path != "/srv/"+app+"/releases/1/.env" {
					t.Errorf("%s: %+v, %v", app, w, err)
					continue
				}
				w.Close()
			}
		})
	}
	walkers.Wait()
	if n := len(l.Cache.dirs); n != maxCached || open() != n {
		t.Errorf("%d are cached, %d open", n, open())
	}
	l.Cache.Close()
	if open() != 0 {
		t.Errorf("%d are still open", open())
	}
}

// Below a directory that is not cached, perhaps because it is another one by now,
// nothing is cached, and nothing cached is found.
func TestCacheHasNoGaps(t *testing.T) {
	l := tree(t, map[string]string{"/srv/shop/.env": ""})
	l.Cache = NewCache()
	defer l.Cache.Close()
	srv, err := l.Walk("/srv")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	parent := srv.element
	for _, want := range []bool{false, true, false} {
		parent.cached = want
		w, shop := &walk{Way: new(Way), cache: l.Cache}, element{Path: "/srv/shop"}
		if err := w.reach(parent, &shop, "shop", unix.O_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		w.enter(parent, shop)
		w.Close()
		if got := w.here().cached; got != want {
			t.Errorf("cached: %t, want %t", got, want)
		}
	}
}
