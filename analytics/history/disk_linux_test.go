package history

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/ingest/schema"
)

// TestFullDisk fills in a process whose files may not grow beyond 2 MB, which
// DuckDB takes for a full disk; then the limit is lifted and the rest comes.
func TestFullDisk(t *testing.T) {
	if path := os.Getenv("WEIR_TEST_DISK"); path != "" {
		signal.Ignore(syscall.SIGXFSZ)
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		max := limit.Cur
		limit.Cur = 2 << 20
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		const total = 60_000
		l := newFakeLog(map[string]int{"transactions": 1})
		recs := make([][]byte, total)
		for i := range recs {
			recs[i] = transaction(i)
		}
		l.append("transactions", 0, recs...)
		db := open(t, path)
		o := l.options()
		o.CommitRows = 5_000
		h, stop := start(t, db, []*schema.Stream{transactions()}, o)
		deadline := time.Now().Add(time.Minute)
		for testutil.ToFloat64(h.metrics.errors) < 2 {
			if time.Now().After(deadline) {
				t.Fatal("the full disk is no error")
			}
			time.Sleep(time.Millisecond)
		}
		fmt.Println("rows while the disk is full:", ask(t, db, "SELECT count(*) > 0 AND count(*) < 60000 AND count(*) = count(DISTINCT id) FROM transactions"))
		limit.Cur = max
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		wait(t, h, l, "transactions")
		stop()
		fmt.Println("rows at the end:", ask(t, db, "SELECT count(*), count(DISTINCT id) FROM transactions"), "moved:", db.Moved())
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_TEST_DISK="+filepath.Join(t.TempDir(), "weir.duckdb"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rows while the disk is full: true") || !strings.Contains(string(out), "rows at the end: 60000|60000 moved: false") {
		t.Fatalf("%v\n%s", err, out)
	}
}
