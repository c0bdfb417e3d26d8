package broker

import (
	"net"
	"net/netip"
	"sync"
)

// door bounds the open connections: of all clients, and of those at one address.
type door struct {
	total, perAddress int

	mu        sync.Mutex
	open      int
	addresses map[netip.Addr]int
}

// Reasons to refuse a connection, the metric's labels.
const (
	refusedTotal   = "total"
	refusedAddress = "address"
)

// enter lets a connection in, or says why not. Who entered must leave.
func (d *door) enter(nc net.Conn) (refused string) {
	addr := addressOf(nc)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.open >= d.total:
		return refusedTotal
	case d.addresses[addr] >= d.perAddress:
		return refusedAddress
	}
	d.open++
	d.addresses[addr]++
	return ""
}

func (d *door) leave(nc net.Conn) {
	addr := addressOf(nc)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.addresses[addr]--; d.addresses[addr] == 0 {
		delete(d.addresses, addr)
	}
}

// addressOf is the client's address, the zero one for all that have none.
func addressOf(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
