package clients

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/test/loopback"
	"github.com/weirstream/weir/test/published"
)

// weirBinary is the weir under test: WEIR_BINARY, or one built for this run.
var weirBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if other() != "" {
			return m.Run()
		}
		path, remove, err := published.Weir()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer remove()
		weirBinary = path
		return m.Run()
	}())
}

// other is the address of a broker that runs already.
func other() string { return os.Getenv("WEIR_CLIENTS_BROKER") }

// patience bounds every wait. It is long because two cores run a dozen clients.
const patience = 90 * time.Second

// broker is a weir process that can be killed and started again at its address,
// or another broker.
type broker struct {
	t      *testing.T
	dir    string
	addr   string
	mu     sync.Mutex
	log    []string
	cmd    *exec.Cmd
	exited chan struct{}
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	if other() != "" {
		return &broker{t: t, addr: other()}
	}
	b := &broker{t: t, dir: t.TempDir(), addr: loopback.Any()}
	if err := os.WriteFile(filepath.Join(b.dir, "weir.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Logf("the last of weir's log:")
			for _, line := range b.log[max(0, len(b.log)-40):] {
				t.Log(line)
			}
		}
	})
	return b
}

var readyLine = regexp.MustCompile(`msg=ready .*kafka=(\S+)`)

func (b *broker) start() {
	b.t.Helper()
	b.cmd = exec.Command(weirBinary, "run", "--config", filepath.Join(b.dir, "weir.yaml"), "--data-dir", filepath.Join(b.dir, "data"),
		"--kafka-addr", b.addr, "--http-addr", "127.0.0.1:0", "--sql-addr", "127.0.0.1:0")
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	ready := make(chan string, 1)
	b.exited = make(chan struct{})
	go func() {
		defer close(b.exited)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			b.mu.Lock()
			b.log = append(b.log, lines.Text())
			b.mu.Unlock()
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m[1]
			}
		}
		b.cmd.Wait() //nolint:errcheck // it is killed
	}()
	select {
	case b.addr = <-ready:
	case <-b.exited:
		b.t.Fatalf("weir ended before it was ready: %v", b.log)
	case <-time.After(patience):
		b.t.Fatalf("weir was not ready within %v", patience)
	}
}

// kill is kill -9.
func (b *broker) kill() {
	b.cmd.Process.Signal(syscall.SIGKILL) //nolint:errcheck // it may have ended
	<-b.exited
}

// reader is the test's own view of a broker.
type reader struct {
	t    *testing.T
	addr string
	cl   *kgo.Client
	adm  *kadm.Client
}

func (b *broker) reader(t *testing.T) *reader {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &reader{t: t, addr: b.addr, cl: cl, adm: kadm.NewClient(cl)}
}

// within is a context that ends when patience does.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// topic makes a topic that keeps its records, which are from 2023.
func (r *reader) topic(name string, partitions int) string {
	r.t.Helper()
	forever := "-1"
	if _, err := r.adm.CreateTopic(within(r.t), int32(partitions), 1, map[string]*string{"retention.ms": &forever}, name); err != nil {
		r.t.Fatalf("creating %s: %v", name, err)
	}
	return name
}

func (r *reader) produce(records ...*kgo.Record) {
	r.t.Helper()
	if err := r.cl.ProduceSync(within(r.t), records...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// end writes the record to each partition at which readers stop.
func (r *reader) end(topic string, partitions int) {
	r.t.Helper()
	for p := range partitions {
		r.produce(&kgo.Record{Topic: topic, Partition: int32(p), Value: []byte("end")})
	}
}

// read is what a topic holds before the ends of its partitions, by partition.
func (r *reader) read(topic string, partitions int, isolation kgo.IsolationLevel) map[int32][]*kgo.Record {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(isolation))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	got := map[int32][]*kgo.Record{}
	ended := map[int32]bool{}
	for ctx := within(r.t); len(ended) < partitions; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			r.t.Fatalf("reading %s: %v", topic, err)
		}
		fs.EachRecord(func(rec *kgo.Record) {
			switch {
			case ended[rec.Partition]:
				r.t.Errorf("%s/%d holds something behind its end", topic, rec.Partition)
			case string(rec.Value) == "end":
				ended[rec.Partition] = true
			default:
				got[rec.Partition] = append(got[rec.Partition], rec)
			}
		})
	}
	return got
}

// until waits for a condition that only asking can tell.
func until(t *testing.T, what string, f func() (ok bool, now string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, now := f()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s", what, patience, now)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at a condition
	}
}
