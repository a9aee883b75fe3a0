package units

import (
	"slices"
	"strings"
	"testing"
)

// TestReleaseUnit: the release command runs in what its app runs in, but for what makes the
// app a server.
func TestReleaseUnit(t *testing.T) {
	l := tree(t, map[string]string{"/usr/bin/true": "#!", "/srv/shop/bin/migrate": "#!"})
	unit := func(lines ...string) (release, app string) {
		t.Helper()
		text := strings.Join(append([]string{"SYSTEMD_CLUSTER_MODE=1", "SYSTEMD_EXEC_START=/usr/bin/true", "PORT=3000", "SYSTEMD_WORKING_DIRECTORY=/srv/shop"}, lines...), "\n") + "\n"
		s, err := l.Check(&Source{App: "shop", Path: "/srv/shop/.env", Text: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return s.ReleaseUnit("/g"), s.Unit("/g")
	}
	if release, _ := unit(); release != "" {
		t.Errorf("without a release command there is a unit for one:\n%s", release)
	}
	release, app := unit("SYSTEMD_CLUSTER_RELEASE_COMMAND='./bin/migrate --all \"$DATABASE_URL 100%\"'", "SYSTEMD_CLUSTER_RELEASE_TIMEOUT_SEC=90", "SYSTEMD_MEMORY_MAX=1G", "DATABASE_URL=secret")
	if strings.Contains(release, "secret") {
		t.Errorf("the unit has a value of the .env:\n%s", release)
	}
	has := strings.Split(release, "\n")
	for _, line := range []string{
		"Type=oneshot", "RemainAfterExit=yes", "TimeoutStartSec=90s", "User=ar-shop", "DynamicUser=yes", "WorkingDirectory=/srv/shop", "EnvironmentFile=/g/environment",
		`ExecStart=/srv/shop/bin/migrate --all "$$DATABASE_URL 100%%"`, "MemoryMax=1G", "SyslogIdentifier=shop", "LogExtraFields=APP_ROLLOUT_APP=shop", "SourcePath=/g/env",
	} {
		if !slices.Contains(has, line) {
			t.Errorf("%q is missing in\n%s", line, release)
		}
	}
	for _, directive := range []string{"Restart=", "Slice=", "Environment=SYSTEMD_INSTANCE", "KillSignal="} {
		if strings.Contains(release, "\n"+directive) {
			t.Errorf("%s is not for a command that ends:\n%s", directive, release)
		}
	}
	_, sandbox, _ := strings.Cut(app, "# The sandbox.\n")
	sandbox, _, _ = strings.Cut(sandbox, "\n# Instances")
	if !strings.HasSuffix(release, sandbox) {
		t.Errorf("it has another sandbox than the app:\n%s\nand the app has\n%s", release, sandbox)
	}
}
