package units

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// heldAndNot are the ways to ask: each time anew, in a run, and once more in the
// same run. All must say the same.
func heldAndNot(t testing.TB, l Layout) []Layout {
	holding, release := l.Hold()
	t.Cleanup(release)
	return []Layout{l, holding, holding}
}

// That a directory is held says nothing of who may write to it by now.
func TestHeldIsAskedAnew(t *testing.T) {
	l, release := tree(t, map[string]string{"/etc/app-rollout/shop.env": "-> /srv/shop/.env", "/srv/shop/.env": "A=1\n"}).Hold()
	defer release()
	for _, dir := range []string{"/", "/etc", "/etc/app-rollout", "/srv", "/srv/shop"} {
		if _, err := l.ReadSource("shop"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(l.Path(dir), 0o757); err != nil {
			t.Fatal(err)
		}
		_, err := l.ReadSource("shop")
		if want := dir + ": can be written by everybody; chmod o-w " + dir; err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
		if err := os.Chmod(l.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// What is put in the place of a held directory is not mixed with what is held:
// what is found is what was there first, or nothing.
func TestHeldIsOfOneMoment(t *testing.T) {
	l, release := tree(t, map[string]string{
		"/etc/app-rollout/shop.env": "-> /srv/shop/.env", "/srv/shop/.env": "A=1\n",
		"/etc/app-rollout/late.env": "-> /srv/shop/sub/.env", "/srv/other/sub/.env": "A=2\n",
		"/etc/app-rollout/new.env": "-> /srv/other/sub/.env",
	}).Hold()
	defer release()
	if _, err := l.ReadSource("shop"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(l.Path("/srv/shop"), l.Path("/srv/away")), os.Symlink("other", l.Path("/srv/shop"))); err != nil {
		t.Fatal(err)
	}
	if src, err := l.ReadSource("shop"); err != nil || src.Path != "/srv/shop/.env" || string(src.Text) != "A=1\n" {
		t.Errorf("source is %+v, %v", src, err)
	}
	if src, err := l.ReadSource("late"); err == nil {
		t.Errorf("source is %+v", src)
	}
	if src, err := l.ReadSource("new"); err != nil || string(src.Text) != "A=2\n" {
		t.Errorf("source is %+v, %v", src, err)
	}
}

// However many directories there are and whoever walks at once: few are held, and
// no other descriptor stays open.
func TestHeldAreFew(t *testing.T) {
	files := map[string]string{}
	var apps []string
	for i := range maxHeld / 2 { // each in three directories of its own
		app := fmt.Sprintf("app%d", i)
		apps = append(apps, app)
		files["/etc/app-rollout/"+app+".env"] = "-> /srv/" + app + "/current/.env"
		files["/srv/"+app+"/current"] = "-> releases/1"
		files["/srv/"+app+"/releases/1/.env"] = "A=" + app + "\n"
	}
	l, release := tree(t, files).Hold()
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
				src, err := l.ReadSource(app)
				if err != nil || string(src.Text) != "A="+app+"\n" {
					t.Errorf("%s: %+v, %v", app, src, err)
				}
			}
		})
	}
	walkers.Wait()
	if held := len(l.held.dirs); held != maxHeld || open() != held {
		t.Errorf("%d are held, %d open", held, open())
	}
	release()
	if open() != 0 {
		t.Errorf("%d are still open", open())
	}
}

// Below a directory that is not held, perhaps since it is another by now, none
// is, nor is any found that is.
func TestHeldHasNoGaps(t *testing.T) {
	l, release := tree(t, map[string]string{"/srv/shop/.env": ""}).Hold()
	defer release()
	srv, err := l.walk("/srv")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.close()
	here := srv.element
	reach := func() (w walked, e element) {
		e.path = "/srv/shop"
		if err := w.reach(l.held, here, &e, "shop", unix.O_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		w.hold(l.held, here, &e)
		return w, e
	}
	for _, want := range []bool{false, true, false} {
		here.held = want
		w, shop := reach()
		w.close()
		if shop.held != want {
			t.Errorf("held: %t, want %t", shop.held, want)
		}
	}
}

// A file system that may hang is refused each time.
func TestHeldRefusesMounts(t *testing.T) {
	for _, l := range heldAndNot(t, Layout{}) {
		if _, err := l.walk("/proc/self/environ"); err == nil || !strings.Contains(err.Error(), "may keep the boot waiting") {
			t.Errorf("error is %v", err)
		}
	}
}
