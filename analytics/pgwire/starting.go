package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// startupMax bounds the first message of a client.
	startupMax = 10_000
	// encryptionAsksMax is how often a client may ask for encryption before it says
	// who it is: for TLS and for GSSAPI.
	encryptionAsksMax = 2
	sslRequest        = 80877103
	gssRequest        = 80877104
	cancelRequest     = 80877102
)

// TellStarting answers the clients of lis as PostgreSQL does while it cannot be asked
// yet: FATAL 57P03. It returns once ctx is done, and leaves lis open for Serve.
func TellStarting(ctx context.Context, lis *net.TCPListener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		lis.SetDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
		lis.SetDeadline(time.Time{})
	}()
	places := make(chan struct{}, 100)
	for {
		nc, err := lis.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case places <- struct{}{}:
			clients.Go(func() {
				defer func() { <-places }()
				tellStarting(ctx, nc)
			})
		default:
			nc.Close()
		}
	}
}

// tellStarting refuses one client. What goes wrong is the client's concern.
func tellStarting(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(handshakeMax))
	defer context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Unix(1, 0)) })()
	for range encryptionAsksMax + 1 {
		code, err := readStartup(nc)
		if err != nil || code == cancelRequest {
			return
		}
		if code != sslRequest && code != gssRequest {
			break
		}
		if _, err := nc.Write([]byte{'N'}); err != nil {
			return
		}
	}
	fields := "SFATAL\x00VFATAL\x00C57P03\x00Mthe SQL database is being opened\x00HTry again in a moment. Events are taken meanwhile.\x00\x00"
	msg := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields)))
	_, _ = nc.Write(append(msg, fields...)) // it is closed either way
}

// readStartup reads a first message: its length, a code, and the rest.
func readStartup(r io.Reader) (code uint32, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 8 || size > startupMax {
		return 0, errors.New("not a startup message")
	}
	_, err = io.CopyN(io.Discard, r, int64(size)-8)
	return binary.BigEndian.Uint32(head[4:]), err
}
