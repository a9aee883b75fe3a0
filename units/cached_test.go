package units

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// cachedAndNot are the ways to ask: each time anew, in a run, and once more in the
// same run. All must say the same.
func cachedAndNot(t testing.TB, l Layout) []Layout {
	cached, release := l.Cached()
	t.Cleanup(release)
	return []Layout{l, cached, cached}
}

// A cached directory may be writable to others by now: each walk asks anew.
func TestCachedIsAskedAnew(t *testing.T) {
	l, release := tree(t, map[string]string{"/etc/app-rollout/shop.env": "-> /srv/shop/.env", "/srv/shop/.env": "A=1\n"}).Cached()
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

// What takes the place of a cached directory is never mixed with the directory: a
// walk finds what was there first, or nothing.
func TestCachedIsOfOneMoment(t *testing.T) {
	l, release := tree(t, map[string]string{
		"/etc/app-rollout/shop.env": "-> /srv/shop/.env", "/srv/shop/.env": "A=1\n",
		"/etc/app-rollout/late.env": "-> /srv/shop/sub/.env", "/srv/other/sub/.env": "A=2\n",
		"/etc/app-rollout/new.env": "-> /srv/other/sub/.env",
	}).Cached()
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

// A file system that may hang is refused each time.
func TestCachedRefusesMounts(t *testing.T) {
	for _, l := range cachedAndNot(t, Layout{}) {
		if _, err := l.tree().Walk("/proc/self/environ"); err == nil || !strings.Contains(err.Error(), "may keep the boot waiting") {
			t.Errorf("error is %v", err)
		}
	}
}
