package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Base is in every image.
var Base = []string{
	"systemd", "systemd-sysv", "dbus", "iproute2", "procps", "kmod",
	"python3", "gunicorn",
}

// tidy makes an image what a machine wants to boot from: packages' own
// services do not start, and no terminal waits for a login.
const tidy = `
rm -f "$1"/etc/systemd/system/*.wants/* "$1"/etc/rc?.d/S* "$1"/etc/resolv.conf "$1"/etc/hostname
for unit in console-getty.service getty@.service getty-static.service systemd-networkd.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
: > "$1/etc/machine-id"
`

// buildImage returns the directory of the image of a release with Base and
// these packages, after building it if it is not there.
func buildImage(release string, packages []string, logf func(string, ...any)) (string, error) {
	return Tree(release, append(slices.Clone(Base), packages...), tidy, logf)
}

// Tree returns a directory under build/images that holds a minimal Debian with
// these packages, after building it if it is not there. hook is a shell script
// that ends the building; "$1" is the directory.
func Tree(release string, packages []string, hook string, logf func(string, ...any)) (string, error) {
	packages = slices.Clone(packages)
	slices.Sort(packages)
	packages = slices.Compact(packages)
	key := sha256.Sum256([]byte(strings.Join(packages, "\n") + hook))
	images := filepath.Join(Root(), "build", "images")
	image := filepath.Join(images, release+"-"+hex.EncodeToString(key[:4]))
	if err := os.MkdirAll(images, 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(image+".lock", true)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	logf("building the image %s of %d packages (once; a minute or so)", filepath.Base(image), len(packages))
	temp := image + ".tmp"
	if err := os.RemoveAll(temp); err != nil {
		return "", err
	}
	args := []string{"--quiet", "--mode=root", "--variant=minbase", "--include=" + strings.Join(packages, ",")}
	for _, option := range aptOptions() {
		args = append(args, "--aptopt="+option)
	}
	args = append(args, "--customize-hook="+"set -eu\n"+hook, release, temp)
	if mirror := hostMirror(); mirror != "" {
		args = append(args, mirror)
	}
	var out bytes.Buffer
	cmd := exec.Command("mmdebstrap", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w\n%s", err, out.Bytes())
	}
	return image, os.Rename(temp, image)
}

// aptOptions are the settings of the host's own apt that decide how it reaches
// its mirror: proxies, and whether an old Release file will do.
func aptOptions() []string {
	dump, err := exec.Command("apt-config", "dump").Output()
	if err != nil {
		return nil
	}
	var options []string
	for line := range strings.Lines(string(dump)) {
		if reach.MatchString(line) {
			options = append(options, strings.TrimSuffix(strings.TrimSpace(line), ";"))
		}
	}
	return options
}

var reach = regexp.MustCompile(`^Acquire::(https?::(Proxy|Verify|CaInfo)[^ ]*|Check-Valid-Until|Check-Date|Retries) "[^"]+";`)

// hostMirror is the mirror that the host's own apt has for Debian, "" if the
// host is not a Debian; then mmdebstrap takes Debian's own.
func hostMirror() string {
	for _, name := range []string{"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"} {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			if m := mirrorURL.FindString(line); m != "" {
				return strings.TrimSuffix(strings.TrimSpace(m), "/")
			}
		}
	}
	return ""
}

var mirrorURL = regexp.MustCompile(`https?://[^ \t]+/debian/?(\s|$)`)
