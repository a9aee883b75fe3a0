package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The wire format of sock_diag(7) and linux/inet_diag.h. Integers are in the
// host's order, ports and addresses in the network's.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY

	requestSize = 56 // struct inet_diag_req_v2
	rowSize     = 72 // struct inet_diag_msg

	attrInfo     = 2  // INET_DIAG_INFO: struct tcp_info
	attrV6Only   = 11 // INET_DIAG_SKV6ONLY
	attrULP      = 19 // INET_DIAG_ULP_INFO
	attrCgroup   = 21 // INET_DIAG_CGROUP_ID, since Linux 5.8
	attrULPName  = 1  // INET_ULP_INFO_NAME
	attrTypeMask = 0x3fff

	stateEstablished = 1 // TCP_ESTABLISHED, net/tcp_states.h
	stateSynRecv     = 3
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateTimeWait    = 6
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
)

// query asks for the sockets in some states; a port of 0 is any port.
type query struct {
	states uint32 // 1<<state for each state wanted
	port   uint16 // the local one
	info   bool   // with tcp_info
}

// row is one socket in the kernel's answer.
type row struct {
	state          uint8
	retransmits    uint8
	local, remote  netip.AddrPort
	device         uint32
	cookie         uint64
	expires        time.Duration
	rqueue, wqueue uint32
	uid, inode     uint32
	v6only         bool
	ulp            string
	cgroup         uint64
	info           []byte
}

// dump returns the TCP sockets, IPv4 and IPv6, that match q.
func dump(q query) ([]row, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer conn.Close()

	var rows []row
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		answers, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   q.marshal(family, netip.AddrPortFrom(netip.Addr{}, q.port), netip.AddrPort{}),
		})
		if errors.Is(err, unix.ENOENT) && family == unix.AF_INET6 {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		for _, answer := range answers {
			if answer.Header.Type != sockDiagByFamily {
				continue
			}
			r, err := parseRow(answer.Data)
			if err != nil {
				return nil, err
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// find returns the TCP socket between the two addresses, which it looks up as the
// kernel does for a packet (inet_diag_find_one_icsk): to dump those of one port
// would have the kernel go through its whole table. With no connection there, it
// may be the listener that would take one.
func find(local, remote netip.AddrPort) (r row, found bool, err error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return row{}, false, fmt.Errorf("sock_diag: %w", err)
	}
	defer conn.Close()
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   query{states: ^uint32(0)}.marshal(family, local, remote),
	})
	if errors.Is(err, unix.ENOENT) {
		return row{}, false, nil
	}
	if err != nil {
		return row{}, false, fmt.Errorf("sock_diag: %w", err)
	}
	if len(answers) != 1 {
		return row{}, false, fmt.Errorf("sock_diag: %d answers, want 1", len(answers))
	}
	r, err = parseRow(answers[0].Data)
	return r, err == nil, err
}

// marshal writes a struct inet_diag_req_v2. The ports restrict a dump within the
// kernel (inet_diag_dump_icsk compares them when they are not 0).
func (q query) marshal(family uint8, local, remote netip.AddrPort) []byte {
	b := make([]byte, requestSize)
	b[0] = family
	b[1] = unix.IPPROTO_TCP
	if q.info {
		b[2] = 1 << (attrInfo - 1)
	}
	binary.NativeEndian.PutUint32(b[4:], q.states)
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	copy(b[12:28], local.Addr().AsSlice())
	copy(b[28:44], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

func parseRow(b []byte) (row, error) {
	if len(b) < rowSize {
		return row{}, fmt.Errorf("sock_diag: a row of %d bytes, want %d or more", len(b), rowSize)
	}
	addr := func(at, portAt int) netip.AddrPort {
		port := binary.BigEndian.Uint16(b[portAt:])
		if b[0] == unix.AF_INET {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[at:at+4])), port)
		}
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[at:at+16])), port)
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	r := row{
		state:       b[1],
		retransmits: b[3],
		local:       addr(8, 4),
		remote:      addr(24, 6),
		device:      u32(40),
		// Two 32-bit words, the low one first whatever the byte order.
		cookie:  uint64(u32(48))<<32 | uint64(u32(44)),
		expires: time.Duration(u32(52)) * time.Millisecond,
		rqueue:  u32(56),
		wqueue:  u32(60),
		uid:     u32(64),
		inode:   u32(68),
	}

	attrs, err := netlink.NewAttributeDecoder(b[rowSize:])
	if err != nil {
		return row{}, fmt.Errorf("sock_diag: %w", err)
	}
	for attrs.Next() {
		switch attrs.Type() & attrTypeMask {
		case attrInfo:
			r.info = attrs.Bytes()
		case attrV6Only:
			r.v6only = attrs.Uint8() != 0
		case attrCgroup:
			r.cgroup = attrs.Uint64()
		case attrULP:
			attrs.Nested(func(ulp *netlink.AttributeDecoder) error {
				for ulp.Next() {
					if ulp.Type()&attrTypeMask == attrULPName {
						r.ulp = ulp.String()
					}
				}
				return nil
			})
		}
	}
	if err := attrs.Err(); err != nil {
		return row{}, fmt.Errorf("sock_diag: %w", err)
	}
	return r, nil
}

// infoUint32 and infoUint64 read one field of struct tcp_info (linux/tcp.h) by
// its offset; 0 if this kernel's struct ends before it.
func (r row) infoUint32(offset uintptr) uint32 {
	if uintptr(len(r.info)) < offset+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(r.info[offset:])
}

func (r row) infoUint64(offset uintptr) uint64 {
	if uintptr(len(r.info)) < offset+8 {
		return 0
	}
	return binary.NativeEndian.Uint64(r.info[offset:])
}

const (
	infoLastSent      = unsafe.Offsetof(unix.TCPInfo{}.Last_data_sent)
	infoLastReceived  = unsafe.Offsetof(unix.TCPInfo{}.Last_data_recv)
	infoBytesReceived = unsafe.Offsetof(unix.TCPInfo{}.Bytes_received)
	infoBytesSent     = unsafe.Offsetof(unix.TCPInfo{}.Bytes_sent)
)
