package pgwire

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestTellStarting: a client is told that the database starts, one that says
// nothing holds nothing up, and the listener serves others afterwards.
func TestTellStarting(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan error, 1)
	go func() { told <- TellStarting(ctx, lis.(*net.TCPListener)) }()
	silent, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, mode := range []string{"disable", "prefer"} { // the latter asks for TLS first
		conn, err := pgx.Connect(t.Context(), "postgres://weir@"+lis.Addr().String()+"/weir?sslmode="+mode)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "57P03" || refused.Severity != "FATAL" {
			t.Fatalf("sslmode %s: %v, %v", mode, conn, err)
		}
	}
	cancel()
	select {
	case err := <-told:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(handshakeMax / 2):
		t.Fatal("it waits for a silent client")
	}
	next, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := lis.Accept(); err != nil {
		t.Fatalf("the listener is of no use afterwards: %v", err)
	}
}
