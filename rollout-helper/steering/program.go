package steering

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// maxProbes is how many serving sockets the program tries before it leaves the
// choice to the kernel. Only sockets that have closed since the last look are
// tried in vain.
const maxProbes = 64

// Offsets in struct sk_reuseport_md (linux/bpf.h).
const (
	ctxData        = 0
	ctxDataEnd     = 8
	ctxEthProtocol = 20
	ctxHash        = 32
)

const (
	skDrop = 0 // SK_DROP
	skPass = 1 // SK_PASS

	headerNetwork = 1  // BPF_HDR_START_NET
	ipv4Source    = 12 // offset of the source address in struct iphdr
	ipv6Source    = 8  // the same in struct ipv6hdr
)

// Stack slots, offsets from the frame pointer. On Linux 6.1 the verifier refuses
// a partial write to an 8-byte slot that holds a register, if the loader has no
// CAP_PERFMON. So every slot has one use, and registers go in as whole words.
const (
	stackAskKey  = -24 // askKey: three words
	stackAddress = -40 // 16 bytes that only the helper writes: an IPv6 address
	stackAddr4   = -48 // 4 bytes that only the helper writes: an IPv4 address
	stackIndex   = -56 // key of the table
	stackSlot    = -64 // key of the socket array
	stackAskSlot = -72 // the same, for an ask
)

// program builds the program of one group. The serving sockets stand in table,
// as slots of the array sockets: n of them, then the first ones again, so that
// probe needs no wrapping round. asks holds who is asking whom.
func program(sockets, table, asks *ebpf.Map, n int) *ebpf.ProgramSpec {
	var b asm.Instructions
	add := func(ins ...asm.Instruction) { b = append(b, ins...) }

	add(asm.Mov.Reg(asm.R6, asm.R1))

	// Is it a question of ours? A connection that migrates may come with no
	// packet: it is never one.
	add(
		asm.LoadMem(asm.R2, asm.R6, ctxData, asm.DWord),
		asm.LoadMem(asm.R3, asm.R6, ctxDataEnd, asm.DWord),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, 2),
		asm.JGT.Reg(asm.R4, asm.R3, "serve"),
		// The TCP header begins with the source port. With the protocol beside
		// it the last word of the key is whole.
		asm.LoadMem(asm.R7, asm.R2, 0, asm.Half),
		asm.LoadMem(asm.R8, asm.R6, ctxEthProtocol, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.LSh.Imm(asm.R1, 16),
		asm.Or.Reg(asm.R7, asm.R1),
		asm.StoreMem(asm.RFP, stackAskKey+16, asm.R7, asm.DWord),
		asm.JEq.Imm(asm.R8, int32(networkOrder(unix.ETH_P_IP)), "ipv4"),
		asm.JNE.Imm(asm.R8, int32(networkOrder(unix.ETH_P_IPV6)), "serve"),
	)
	add(loadNetworkBytes(ipv6Source, stackAddress, 16)...)
	add(
		asm.JNE.Imm(asm.R0, 0, "serve"),
		asm.LoadMem(asm.R1, asm.RFP, stackAddress, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, stackAddress+8, asm.DWord),
		asm.Ja.Label("ask"),
	)
	ipv4 := loadNetworkBytes(ipv4Source, stackAddr4, 4)
	ipv4[0] = ipv4[0].WithSymbol("ipv4")
	add(ipv4...)
	add(
		asm.JNE.Imm(asm.R0, 0, "serve"),
		asm.LoadMem(asm.R1, asm.RFP, stackAddr4, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.RFP, stackAskKey, asm.R1, asm.DWord).WithSymbol("ask"),
		asm.StoreMem(asm.RFP, stackAskKey+8, asm.R2, asm.DWord),
		asm.LoadMapPtr(asm.R1, asks.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackAskKey),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "serve"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
	)
	add(selectSocket(sockets, asm.R1, stackAskSlot)...)
	add(
		asm.JEq.Imm(asm.R0, 0, "pass"),
		// The one that was asked is gone: nobody may answer in its place.
		asm.Mov.Imm(asm.R0, skDrop),
		asm.Return(),
	)

	// Spread by hash: index = hash * n / 2^32.
	add(
		asm.LoadMem(asm.R7, asm.R6, ctxHash, asm.Word).WithSymbol("serve"),
		asm.Mul.Imm(asm.R7, int32(n)),
		asm.RSh.Imm(asm.R7, 32),
	)
	for range probes(n) {
		add(
			asm.Mov.Reg(asm.R1, asm.R7),
		)
		add(storeKey(asm.R1, stackIndex)...)
		add(
			asm.LoadMapPtr(asm.R1, table.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, stackIndex),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		)
		add(selectSocket(sockets, asm.R1, stackSlot)...)
		add(
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Add.Imm(asm.R7, 1),
		)
	}
	add(
		asm.Mov.Imm(asm.R0, skPass).WithSymbol("pass"),
		asm.Return(),
	)

	return &ebpf.ProgramSpec{
		Name:         "app_rollout",
		Type:         ebpf.SkReuseport,
		AttachType:   ebpf.AttachSkReuseportSelectOrMigrate,
		Instructions: b,
		License:      "MIT", // none of the helpers asks for the GPL
	}
}

// probes is how many sockets are tried out of n.
func probes(n int) int { return min(n, maxProbes) }

// loadNetworkBytes copies size bytes at an offset in the network header to the
// stack; R0 is then 0, or negative if the packet is shorter.
func loadNetworkBytes(offset, stack, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, offset),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stack),
		asm.Mov.Imm(asm.R4, size),
		asm.Mov.Imm(asm.R5, headerNetwork),
		asm.FnSkbLoadBytesRelative.Call(),
	}
}

// selectSocket picks the socket at the slot in a register; R0 is then 0, or
// negative if the slot is empty.
func selectSocket(sockets *ebpf.Map, slot asm.Register, stack int16) asm.Instructions {
	return append(storeKey(slot, stack),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, sockets.FD()),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(stack)),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkSelectReuseport.Call(),
	)
}

// storeKey puts the 32-bit key in a register on the stack, as a whole word whose
// first four bytes are the key. The register is lost.
func storeKey(key asm.Register, stack int16) asm.Instructions {
	var b asm.Instructions
	if bigEndian {
		b = append(b, asm.LSh.Imm(key, 32))
	}
	return append(b, asm.StoreMem(asm.RFP, stack, key, asm.DWord))
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// networkOrder is htons(3).
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
