package broker

import (
	"context"
	"testing"
	"time"

	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

// TestJoinGivenUp: who stops waiting for a generation does not look at what the
// group makes of it meanwhile. The race detector sees it: nothing but the group's
// mutex is between the two.
func TestJoinGivenUp(t *testing.T) {
	s := txnServer(t, vfs.NewMem(1))
	s.groups.cfg.InitialDelay = 20 * time.Millisecond
	gone, leave := context.WithCancel(t.Context())
	leave()
	done := make(chan error, 1)
	go func() {
		_, err := s.groups.join(gone, "g", group.JoinRequest{NewID: "m", ProtocolType: "x", Protocols: []group.Protocol{{Name: "p"}}, Session: 10 * time.Second, Rebalance: 10 * time.Second})
		done <- err
	}()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := s.groups.lock("g", true)
		if err != nil {
			t.Fatal(err)
		}
		state := c.state()
		if c.mu.Unlock(); state == group.CompletingRebalance {
			break
		}
		if time.Now().After(end) {
			t.Fatal(state)
		}
	}
	if err := <-done; err == nil {
		t.Fatal("joined with a connection that is gone")
	}
}
