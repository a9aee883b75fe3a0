package ports

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct bpf_sock_addr and struct bpf_sock (linux/bpf.h).
const (
	addrUserPort = 24 // in network order
	addrType     = 32
	addrProtocol = 36

	sockProtocol = 12
)

// The names of the pins.
const (
	Bind4      = "bind4"
	Bind6      = "bind6"
	SockCreate = "sock_create"
)

// programs are the programs by the names of their pins.
func programs() map[string]*ebpf.ProgramSpec {
	return map[string]*ebpf.ProgramSpec{
		Bind4:      bind(ebpf.AttachCGroupInet4Bind),
		Bind6:      bind(ebpf.AttachCGroupInet6Bind),
		SockCreate: sockCreate(),
	}
}

// bind sets SO_REUSEPORT on a TCP or UDP socket that binds a port other than 0,
// and allows every bind.
func bind(attach ebpf.AttachType) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name:       "app_rollout",
		Type:       ebpf.CGroupSockAddr,
		AttachType: attach,
		License:    "MIT", // bpf_setsockopt does not ask for the GPL
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R1, asm.R6, addrUserPort, asm.Word),
			asm.JEq.Imm(asm.R1, 0, "allow"),

			asm.LoadMem(asm.R1, asm.R6, addrType, asm.Word),
			asm.LoadMem(asm.R2, asm.R6, addrProtocol, asm.Word),
			asm.JEq.Imm(asm.R1, unix.SOCK_STREAM, "stream"),
			asm.JNE.Imm(asm.R1, unix.SOCK_DGRAM, "allow"),
			asm.JEq.Imm(asm.R2, 0, "share"),
			asm.JEq.Imm(asm.R2, unix.IPPROTO_UDP, "share"),
			asm.Ja.Label("allow"),
			asm.JEq.Imm(asm.R2, 0, "share").WithSymbol("stream"),
			asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "allow"),

			// bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one). The
			// value is the first half of a word that is written whole.
			asm.LoadImm(asm.R1, one(), asm.DWord).WithSymbol("share"),
			asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, unix.SOL_SOCKET),
			asm.Mov.Imm(asm.R3, unix.SO_REUSEPORT),
			asm.Mov.Reg(asm.R4, asm.RFP),
			asm.Add.Imm(asm.R4, -8),
			asm.Mov.Imm(asm.R5, 4),
			asm.FnSetsockopt.Call(),

			asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"),
			asm.Return(),
		},
	}
}

// one is the word whose first four bytes in memory are the number 1.
func one() int64 {
	word := make([]byte, 8)
	binary.NativeEndian.PutUint32(word, 1)
	return int64(binary.NativeEndian.Uint64(word))
}

// sockCreate refuses Multipath TCP sockets with EPERM: they can neither share a
// port under our control nor be steered. Go (1.24 and later) listens with
// Multipath TCP where it can, and takes plain TCP where it cannot.
func sockCreate() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name:       "app_rollout",
		Type:       ebpf.CGroupSock,
		AttachType: ebpf.AttachCGroupInetSockCreate,
		License:    "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, sockProtocol, asm.Word),
			asm.Mov.Imm(asm.R0, 0),
			asm.JEq.Imm(asm.R1, unix.IPPROTO_MPTCP, "refuse"),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return().WithSymbol("refuse"),
		},
	}
}
