package rollout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app-rollout/units/problem"
)

// TestRights: what somebody has given to another user is named, with what mends it.
func TestRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	w := newWorld(t)
	dir := w.layout.State("shop")
	path := filepath.Join(dir, "generations/2/generation.json.7.tmp")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Chown(filepath.Dir(path), 12345, 0)); err != nil {
		t.Fatal(err)
	}
	denied := &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	want := filepath.Dir(path)
	got := rights(w.layout, errors.Join(errFault, denied))
	if each := problem.Each(got); len(each) != 2 || each[0] != errFault || each[1].Error() != want+": does not belong to root, and cannot be written; chown -R root: "+want {
		t.Errorf("%v", got)
	}
	if err := os.Chown(dir, 12345, 0); err != nil {
		t.Fatal(err)
	}
	if got := rights(w.layout, &os.LinkError{Op: "rename", Old: "/x", New: path, Err: fs.ErrPermission}); !strings.HasSuffix(got.Error(), "chown -R root: "+dir) {
		t.Errorf("%v", got)
	}
	for _, other := range []error{errFault, &fs.PathError{Op: "open", Path: "/etc/app-rollout/shop.env", Err: fs.ErrPermission}} {
		if got := rights(w.layout, other); got.Error() != other.Error() {
			t.Errorf("%v became %v", other, got)
		}
	}
}
