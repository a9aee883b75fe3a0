package reach

import "testing"

// A FUSE or automount file system is refused by its type in the table of
// mounts, which is looked up before anything of it is asked.
func TestHangingTypes(t *testing.T) {
	for fs, want := range map[string]bool{"fuse": true, "fuse.sshfs": true, "fuseblk": true, "autofs": true, "proc": true,
		"ext4": false, "btrfs": false, "overlay": false, "tmpfs": false, "nfs4": false, "zfs": false} {
		if hangs(fs) != want {
			t.Errorf("%s: %t", fs, !want)
		}
	}
}
