// Package pages holds the pages of the repository to what they promise: links
// that lead somewhere, a README of one page, and a complete map of the code.
package pages

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"app-rollout/test/machine"
)

// TestLinks follows each link from each page of the repository to another file
// or heading in it. It asks no other host.
func TestLinks(t *testing.T) {
	root := machine.Root()
	followed := 0
	for _, path := range markdown(t, root) {
		for _, link := range links(read(t, path)) {
			if strings.Contains(link, "://") {
				continue
			}
			followed++
			file, anchor, _ := strings.Cut(link, "#")
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			name, _ := filepath.Rel(root, path)
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s points to %s, which is not there", name, link)
			} else if anchor != "" && !anchors(read(t, to))[anchor] {
				t.Errorf("%s points to %s, which has no such heading", name, link)
			}
		}
	}
	if followed == 0 {
		t.Error("no page has a link")
	}
}

// TestOnePage keeps the README short enough to be read.
func TestOnePage(t *testing.T) {
	const most = 170
	if n := strings.Count(read(t, filepath.Join(machine.Root(), "README.md")), "\n"); n > most {
		t.Errorf("README.md has %d lines: a page is at most %d", n, most)
	}
}

// TestMap keeps the map of the code complete: it links to each package.
func TestMap(t *testing.T) {
	root := filepath.Join(machine.Root(), "rollout-helper")
	named := links(read(t, filepath.Join(root, "README.md")))
	for _, top := range []string{"generator", "units", "rollout-helper"} {
		packages := map[string]bool{}
		err := filepath.WalkDir(filepath.Join(root, "..", top), func(path string, entry fs.DirEntry, err error) error {
			// Packages that only tests import have names like socktest.
			if dir := filepath.Dir(path); filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(dir, "test") {
				packages[dir] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for dir := range packages {
			if link, _ := filepath.Rel(root, dir); !slices.Contains(named, link) {
				t.Errorf("rollout-helper/README.md does not link to the package %s", link)
			}
		}
	}
}

// markdown is the paths of all pages below root, except those that are built.
func markdown(t *testing.T, root string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (path == filepath.Join(root, "build") || entry.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

var (
	code        = regexp.MustCompile("(?ms)^```.*?^```$")
	target      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading     = regexp.MustCompile(`(?m)^#+ (.*)$`)
	punctuation = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// links are the targets of the links and pictures in a page, outside of code.
func links(page string) (targets []string) {
	for _, found := range target.FindAllStringSubmatch(code.ReplaceAllString(page, ""), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// anchors are the names by which GitHub lets a page's headings be linked to: in
// lower case, without punctuation, with hyphens for spaces.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, found := range heading.FindAllStringSubmatch(code.ReplaceAllString(page, ""), -1) {
		plain := punctuation.ReplaceAllString(strings.ToLower(found[1]), "")
		names[strings.ReplaceAll(plain, " ", "-")] = true
	}
	return names
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
