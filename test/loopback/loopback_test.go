package loopback

import (
	"net"
	"runtime"
	"testing"
)

// TestAny: whatever ports of 127.0.0.1 others have, they are free here.
func TestAny(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("one address for all")
	}
	host, _, err := net.SplitHostPort(Any())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, port, err := net.SplitHostPort(taken.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		mine, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		mine.Close()
	}
}
