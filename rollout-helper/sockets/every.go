package sockets

import "sync"

// EveryConnection is Connections for who asks about many ports, one after the other: it
// reads the connections to all ports, once, when it is first asked. The kernel goes
// through its whole table of connections each time, whatever it is asked for.
func EveryConnection() func(ports ...uint16) ([]Connection, error) {
	read := sync.OnceValues(func() (map[uint16][]Connection, error) {
		all, err := Connections(0)
		if err != nil {
			return nil, err
		}
		byPort := make(map[uint16][]Connection)
		for _, c := range all {
			byPort[c.Local.Port()] = append(byPort[c.Local.Port()], c)
		}
		return byPort, nil
	})
	return func(ports ...uint16) ([]Connection, error) {
		byPort, err := read()
		if err != nil {
			return nil, err
		}
		var some []Connection
		for _, port := range ports {
			some = append(some, byPort[port]...)
		}
		return some, nil
	}
}
