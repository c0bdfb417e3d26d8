package webhook

import (
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// Guard decides which addresses may be connected to: those on the public
// internet (IANA's special-purpose registries are left out), and the networks
// that the operator named. It looks at the address that is dialled, after the
// name was resolved, so that no name can lead elsewhere (server-side request
// forgery, DNS rebinding). It is safe for concurrent use.
type Guard struct{ guardian *ssrf.Guardian }

// NewGuard allows the networks in allow beside the public internet. An IPv4
// network also stands for its addresses written in IPv6 (::ffff:0:0/96).
func NewGuard(allow []netip.Prefix) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &Guard{ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// Check is nil where a may be connected to.
func (g *Guard) Check(a netip.Addr) error {
	if err := g.guardian.SafeAddr(a.Unmap()); err != nil {
		return fmt.Errorf("%s is not public and not in allow_cidrs: %w", a, err)
	}
	return nil
}

// control is a net.Dialer's Control.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%s %s: %w", network, address, ssrf.ErrProhibitedNetwork)
	}
	return g.Check(ap.Addr())
}
