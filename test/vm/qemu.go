package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// emulation works on every host.
var emulation = []string{"-accel", "tcg,thread=multi", "-cpu", "Nehalem"}

// virtualisation uses the host's own CPU. It leaves out arch-capabilities, a register
// that lists only flaws of the CPU: some hosts, which are virtual machines themselves,
// refuse to set it, and qemu then gives up.
var virtualisation = []string{"-accel", "kvm", "-cpu", "host,-arch-capabilities"}

var (
	probe    sync.Once
	chosen   []string
	probeLog string
)

// probeTime is how long a kernel may take to find that it has no root: less
// than a second where KVM works. On hosts where it does not, guests hang.
const probeTime = 4 * time.Second

// Accelerator is how to run guests here: with KVM if a kernel really boots with it,
// else with software emulation. why says which, and why.
func Accelerator(kernel string) (args []string, why string) {
	probe.Do(func() {
		chosen, probeLog = emulation, "software emulation: no /dev/kvm"
		if _, err := os.Stat("/dev/kvm"); err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), probeTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(slices.Clone(virtualisation),
			"-M", "q35", "-smp", "2", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot",
			"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1")...)
		out, err := cmd.CombinedOutput()
		switch {
		case bytes.Contains(out, []byte("Unable to mount root fs")):
			chosen, probeLog = virtualisation, "KVM"
		case ctx.Err() != nil:
			probeLog = fmt.Sprintf("software emulation: by KVM a kernel does not boot in %v", probeTime)
		default:
			probeLog = fmt.Sprintf("software emulation: KVM: %v: %s", err, lastLine(out))
		}
	})
	return chosen, probeLog
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// VM is one run of qemu, from power on to power off or a power cut.
type VM struct {
	Lines <-chan string // what the guest writes to its second serial port; closed when the power is off
	Addr  string        // leads by the network card to the guest's port 8080

	cmd     *exec.Cmd
	disk    Disk
	console string
	exited  chan struct{}
	err     error
}

// cpus is how many a machine has: two boot side by side, and emulated CPUs that
// share a real one lose time waiting for each other.
func cpus() int { return min(2, max(1, runtime.NumCPU()/2)) }

// commandLine is the kernel's. It turns off the guards against flaws of real CPUs:
// they make emulation half as slow again, and guard nothing there.
const commandLine = "root=/dev/vda rw console=ttyS0 panic=-1 quiet systemd.show_status=false mitigations=off"

// Boot switches a machine on. disk is written to when the power is cut, data
// never. The console's log is appended to a file in dir.
func Boot(dir string, disk Disk, data string) (*VM, error) {
	accelerator, _ := Accelerator(disk.Kernel)
	v := &VM{disk: disk, console: filepath.Join(dir, "console.log"), exited: make(chan struct{})}
	live, err := disk.Copy(disk.Image + ".live")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.log(), nil, 0o644); err != nil {
		return nil, err
	}
	if v.Addr, err = freePort(); err != nil {
		return nil, err
	}
	args := append(slices.Clone(accelerator), "-M", "q35", "-smp", fmt.Sprint(cpus()), "-m", "1024", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", disk.Kernel, "-initrd", disk.Initrd, "-append", commandLine,
		"-chardev", "file,id=console,append=on,path="+v.console, "-serial", "chardev:console",
		"-serial", "stdio",
		"-blockdev", "driver=blklogwrites,node-name=disk,file.driver=file,file.filename="+live.Image+",log.driver=file,log.filename="+v.log(),
		"-device", "virtio-blk-pci,drive=disk,discard=off,write-zeroes=off",
		"-blockdev", "driver=file,node-name=data,read-only=on,filename="+data, "-device", "virtio-blk-pci,drive=data",
		"-netdev", "user,id=net,restrict=on,hostfwd=tcp:"+v.Addr+"-:8080", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci")
	v.cmd = exec.Command("qemu-system-x86_64", args...)
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdout, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	v.cmd.Stderr = &stderr
	lines := make(chan string, 1000)
	v.Lines = lines
	started := make(chan error)
	go func() {
		// Pdeathsig comes when the thread that started the child ends: keep it.
		runtime.LockOSThread()
		err := v.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for in := bufio.NewScanner(stdout); in.Scan(); {
			lines <- strings.TrimRight(in.Text(), "\r")
		}
		_, _ = io.Copy(io.Discard, stdout)
		if v.err = v.cmd.Wait(); v.err != nil {
			v.err = fmt.Errorf("qemu: %w\n%s", v.err, stderr.Bytes())
		}
		close(lines)
		close(v.exited)
	}()
	return v, <-started
}

// freePort is an address that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// log is the path of the log of what is written to the disk.
func (v *VM) log() string { return v.disk.Image + ".log" }

// Kill ends the machine and leaves its disk as it was before.
func (v *VM) Kill() {
	_ = v.cmd.Process.Kill()
	<-v.exited
}

// Cut cuts the power: what the guest has not synced is lost.
func (v *VM) Cut() (Lost, error) {
	v.Kill()
	return powerCut(v.disk.Image, v.log())
}

// WaitOff waits until the guest has switched itself off.
func (v *VM) WaitOff(limit time.Duration) error {
	select {
	case <-v.exited:
		return v.err
	case <-time.After(limit):
		return errors.New("the machine does not switch itself off")
	}
}

// Console is the end of what the kernel and systemd wrote.
func (v *VM) Console() string {
	text, err := os.ReadFile(v.console)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-30000):])
}
