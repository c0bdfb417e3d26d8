package anomaly

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

const dataDir = "data"

// cluster is one broker that loses power and comes back with what its disk kept.
// Clients reach it through pipes, under one address, whichever life it is in.
type cluster struct {
	t    testing.TB
	logs commitlog.Options
	bug  bug
	// trace is what clients and coordinators say to each other, and slow how they
	// are held up; nil: neither.
	trace *trace
	slow  *slowness
	hold  func(client string, req kmsg.Request) // before a request leaves

	mu   sync.Mutex // guards what follows
	rng  *rand.Rand
	disk *vfs.Mem
	life *life // nil: down
}

// bug is what a test plants to see it found.
type bug struct {
	// noSync acknowledges before the disk has it.
	noSync bool
	// corrupt changes what a crash left, before the broker finds it.
	corrupt func(t testing.TB, disk *vfs.Mem)
	// request changes what a client sends, in place.
	request func(request []byte)
}

// planted reports whether b is a bug at all.
func (b bug) planted() bool { return b.noSync || b.corrupt != nil || b.request != nil }

// complain is of a broker that does not do what it should. With a bug planted that
// is to be expected, and what counts is whether the checker finds it.
func (c *cluster) complain(format string, args ...any) {
	c.t.Helper()
	if c.bug.planted() {
		c.t.Logf(format, args...)
		return
	}
	c.t.Errorf(format, args...)
}

// life is the broker from a start to its end.
type life struct {
	disk   *disk
	log    *commitlog.Log
	ln     *pipeListener
	cancel context.CancelFunc
	served chan error
}

func newCluster(t testing.TB, seed uint64, b bug) *cluster {
	c := &cluster{t: t, bug: b, rng: rand.New(rand.NewPCG(seed, 1)), disk: vfs.NewMem(seed)}
	c.logs = commitlog.Options{
		SegmentBytes:        int64(2048 << c.rng.IntN(6)),
		CheckpointBytes:     int64(1024 << c.rng.IntN(6)),
		CheckpointEvery:     time.Duration(10+c.rng.IntN(200)) * time.Millisecond,
		ScrubBytesPerSecond: -1,
		NoSync:              b.noSync,
		Logger:              slog.New(slog.DiscardHandler),
	}
	return c
}

// start begins a life on the present disk.
func (c *cluster) start() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &life{disk: newDisk(c.disk, c.rng.Uint64()), served: make(chan error, 1)}
	o := c.logs
	o.FS = l.disk
	var err error
	if l.log, err = commitlog.Open(context.Background(), dataDir, o); err != nil {
		c.t.Fatalf("open after a crash: %v", err)
	}
	s, err := broker.New(l.log, broker.Options{Advertised: "weir:9092", Logger: c.logs.Logger, DrainTimeout: 5 * time.Millisecond,
		Groups: group.Config{MinSession: time.Millisecond, InitialDelay: time.Millisecond}})
	if err != nil {
		c.t.Fatal(err)
	}
	l.ln = newPipeListener(l.disk, c.bug.request)
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() { l.served <- s.Serve(ctx, l.ln) }()
	c.life = l
}

// stop ends the present life in good order.
func (c *cluster) stop() {
	if err := c.end(c.down()); err != nil {
		c.complain("close: %v", err)
	}
}

func (c *cluster) down() *life {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.life
	c.life = nil
	return l
}

func (c *cluster) end(l *life) error {
	l.cancel()
	if err := <-l.served; err != nil {
		c.complain("serve: %v", err)
	}
	return l.log.Close()
}

// crash cuts the power after n more operations on the disk, or after a while
// where nobody does so many, and leaves the broker down on what the disk kept.
func (c *cluster) crash(n int64) {
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	l.disk.left.Store(n)
	select {
	case <-l.disk.dead:
	case <-time.After(50 * time.Millisecond):
		l.disk.cut()
	}
	c.down()
	_ = c.end(l) // the disk is gone
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk = l.disk.kept
	if c.bug.corrupt != nil {
		c.bug.corrupt(c.t, c.disk)
	}
}

// cutConnections closes every connection; the broker lives on.
func (c *cluster) cutConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life.ln.closeAll()
}

// dial connects a client to the present life.
func (c *cluster) dial(_ context.Context, _, _ string) (net.Conn, error) {
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	}
	conn, err := l.ln.connect()
	if err != nil || c.trace == nil {
		return conn, err
	}
	return &tracedConn{Conn: conn, t: c.trace, slow: c.slow, hold: c.hold, asked: map[int32]askedFor{}}, nil
}

// client makes a client that gives up soon enough for a test.
func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	cl, err := kgo.NewClient(c.options(opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

func (c *cluster) options(opts ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers("weir:9092"), kgo.Dialer(c.dial), kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(n int) time.Duration { return time.Duration(min(2*n, 20)) * time.Millisecond }),
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.RequestTimeoutOverhead(500 * time.Millisecond), kgo.RetryTimeout(3 * time.Second), kgo.AlwaysRetryEOF(),
		kgo.FetchMaxWait(20 * time.Millisecond), kgo.ProducerLinger(0),
		kgo.ConcurrentTransactionsBackoff(5 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, opts...)
}

// disk is a file system that loses power after a number of operations. What it
// holds then is kept; what is done to it later is done to nothing.
type disk struct {
	vfs.FS
	mem  *vfs.Mem
	left atomic.Int64 // operations until the power goes; negative: it does not
	once sync.Once
	off  atomic.Bool
	dead chan struct{}
	kept *vfs.Mem // once dead is closed

	mu  sync.Mutex
	rng *rand.Rand
}

func newDisk(mem *vfs.Mem, seed uint64) *disk {
	d := &disk{FS: mem, mem: mem, dead: make(chan struct{}), rng: rand.New(rand.NewPCG(seed, 2))}
	d.left.Store(-1)
	return d
}

// cut: first nothing leaves to clients any more, then the disk is as it is. So
// whatever a client was told was on the disk.
func (d *disk) cut() {
	d.once.Do(func() {
		d.off.Store(true)
		d.kept = d.mem.CrashClone()
		close(d.dead)
	})
}

// tick counts one operation, before and after which the power may go.
func (d *disk) tick() {
	if d.left.Load() >= 0 && d.left.Add(-1) == 0 {
		d.cut()
	}
}

// pause is how long a sync takes.
func (d *disk) pause() {
	d.mu.Lock()
	wait := time.Duration(0)
	if d.rng.IntN(2) == 0 {
		wait = time.Duration(d.rng.IntN(2000)) * time.Microsecond
	}
	d.mu.Unlock()
	time.Sleep(wait)
}

func (d *disk) Create(name string) (vfs.File, error)   { return d.wrap(d.FS.Create(name)) }
func (d *disk) OpenFile(name string) (vfs.File, error) { return d.wrap(d.FS.OpenFile(name)) }

func (d *disk) Rename(from, to string) error {
	d.tick()
	return d.FS.Rename(from, to)
}

func (d *disk) SyncDir(dir string) error {
	d.tick()
	defer d.tick()
	return d.FS.SyncDir(dir)
}

func (d *disk) wrap(f vfs.File, err error) (vfs.File, error) {
	d.tick()
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

type diskFile struct {
	vfs.File
	d *disk
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.tick()
	return f.File.WriteAt(p, off)
}

func (f *diskFile) Sync() error {
	f.d.tick()
	defer f.d.tick()
	f.d.pause()
	return f.File.Sync()
}

// pipeListener is a net.Listener of pipes whose server side is silent once the
// power is off.
type pipeListener struct {
	d        *disk
	request  func([]byte)
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once

	mu   sync.Mutex
	open []net.Conn
}

func newPipeListener(d *disk, request func([]byte)) *pipeListener {
	return &pipeListener{d: d, request: request, incoming: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) connect() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.incoming <- &poweredConn{server, l.d}:
	case <-l.closed:
		return nil, fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	case <-l.d.dead:
		return nil, fmt.Errorf("dial: %w", syscall.EHOSTUNREACH)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, client)
	if l.request != nil {
		return &mangledConn{client, l.request}, nil
	}
	return client, nil
}

func (l *pipeListener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "weir:9092" }

type poweredConn struct {
	net.Conn
	d *disk
}

func (c *poweredConn) Write(p []byte) (int, error) {
	if c.d.off.Load() {
		c.Conn.Close()
		return 0, syscall.ECONNRESET
	}
	return c.Conn.Write(p)
}

// mangledConn changes what a client sends. A kgo client writes one request at a
// time.
type mangledConn struct {
	net.Conn
	request func([]byte)
}

func (c *mangledConn) Write(p []byte) (int, error) {
	c.request(p)
	return c.Conn.Write(p)
}

// files are all files of a disk whose names end in suffix.
func files(t testing.TB, fsys vfs.FS, dir, suffix string) []string {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, n := range names {
		name := dir + "/" + n
		if info, err := fsys.Stat(name); err == nil && info.Dir {
			found = append(found, files(t, fsys, name, suffix)...)
		} else if strings.HasSuffix(n, suffix) {
			found = append(found, name)
		}
	}
	return found
}
