package broker

import (
	"net"
	"net/netip"
	"testing"
)

type visitor struct {
	net.Conn
	from string
}

func (v visitor) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(v.from))
}

func TestDoor(t *testing.T) {
	d := door{total: 3, perAddress: 2, addresses: map[netip.Addr]int{}}
	enter := func(from, want string) {
		t.Helper()
		if got := d.enter(visitor{from: from}); got != want {
			t.Fatalf("%s: %q, expected %q", from, got, want)
		}
	}
	enter("10.0.0.1:1", "")
	enter("10.0.0.1:2", "")
	enter("10.0.0.1:3", refusedAddress)
	enter("[::ffff:10.0.0.1]:4", refusedAddress) // the same, over a listener of both families
	enter("[2001:db8::1]:1", "")
	enter("10.0.0.2:1", refusedTotal)
	d.leave(visitor{from: "10.0.0.1:2"})
	enter("10.0.0.2:1", "")
	d.leave(visitor{from: "10.0.0.1:1"})
	enter("10.0.0.1:5", "")
	for _, from := range []string{"10.0.0.1:5", "10.0.0.2:1", "[2001:db8::1]:1"} {
		d.leave(visitor{from: from})
	}
	if d.open != 0 || len(d.addresses) != 0 {
		t.Fatalf("%d open, %v", d.open, d.addresses)
	}
}
