package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/ports"
	"app-rollout/rollout-helper/sockets"
	"app-rollout/units"
	"app-rollout/units/problem"
)

const restartPorts = "systemctl restart " + units.PortsService

// Host is advice about the machine: how far its kernel can direct traffic,
// and whether ports are shared for the apps.
func (d *Doctor) Host(ctx context.Context, r *Report) {
	d.begin()
	if name := release(); name != "" && !since(name, 5, 14) {
		r.warn("", problem.Problem{Text: "the kernel is " + name + ": connections can be neither steered nor moved before 5.14, so that a rollout may lose some", Remedy: "use a newer one"})
	}
	if sockets.Root() == "" {
		r.warn("", problem.Problem{Text: "no cgroup2 file system is mounted: whose sockets are whose cannot be told", Remedy: "boot with systemd.unified_cgroup_hierarchy=1"})
	}
	if _, err := sockets.Listeners(); err != nil {
		r.warn("", problem.Problem{Text: "who listens cannot be told: " + err.Error()})
	}
	for _, p := range d.Layout.MaskedParts() {
		r.warn("", *p)
	}
	started := d.portsStarted(ctx)
	if started && d.Layout.Unshared() == nil {
		d.portSharing(r)
	}
	if started && !d.Traffic.Migrates() {
		r.warn("", problem.Problem{Text: "net.ipv4.tcp_migrate_req is off: a listener that closes loses what waits in its queue", Remedy: restartPorts})
	}
	if os.Geteuid() != 0 {
		// Nothing of that could be an error.
		r.warn("", problem.Problem{Text: "whether BPF can be used, and ports are shared, was not looked at: only root can", Remedy: "try sudo"})
		return
	}
	if err := features.HaveProgramType(ebpf.SkReuseport); errors.Is(err, ebpf.ErrNotSupported) {
		r.warn("", problem.Problem{Text: "the kernel has no sk_reuseport programs: traffic is not steered, new instances may be asked before they are ready"})
	} else if err != nil {
		r.warn("", problem.Problem{Text: fmt.Sprintf("BPF programs cannot be loaded (%v): traffic is not steered", err), Remedy: "see whether a container or lockdown forbids it"})
	}
}

// portsStarted says whether the service that shares the ports was started, or cannot be,
// or whether instances run without it. Where none runs, the first one starts it.
func (d *Doctor) portsStarted(ctx context.Context) bool {
	us, err := d.Systemd.Units(ctx, units.PortsService)
	if err == nil && len(us) > 0 && (us[0].Active != "inactive" || us[0].Load == "masked") {
		return true
	}
	return sockets.Populated(units.SliceGroup)
}

// portSharing is advice for apps that leave SO_REUSEPORT to us.
func (d *Doctor) portSharing(r *Report) {
	shared := false
	for _, spec := range d.apps {
		shared = shared || spec.Plan.ReusePort && spec.Plan.Port != 0
	}
	_, err := ports.InForce(d.Layout.Path(units.BPFDir), units.SliceGroup)
	if shared && err != nil && !(errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0) {
		r.warn("", problem.Problem{Text: fmt.Sprintf("the port-sharing programs are not in force (%v): an instance shares its port only if the app sets SO_REUSEPORT itself", err), Remedy: restartPorts})
	}
}

// release is that of the running kernel, like "6.1.0-28-amd64".
func release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// since says whether a release is major.minor or newer. A release that it cannot parse
// counts as newer.
func since(release string, major, minor int) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return true
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	return errA != nil || errB != nil || a > major || a == major && b >= minor
}
