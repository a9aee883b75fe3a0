//go:build story

package test

import "app-rollout/test/machine"

// noBPF takes the right to use BPF from the rollouts of single apps.
func noBPF(m *machine.Machine) {
	m.Write("/etc/systemd/system/app-rollout@.service.d/no-bpf.conf",
		"[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH\n", 0o644)
	m.Must("systemctl", "daemon-reload")
}
