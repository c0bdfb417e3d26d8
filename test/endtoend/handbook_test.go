package endtoend

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/test/published"
	"github.com/weirstream/weir/test/seeds"
)

// writeConfig makes a deployment of the examples' streams and rules with one
// receiver.
func writeConfig(t testing.TB, receiver string) string {
	t.Helper()
	examples := filepath.Join(published.Root(t), "docs", "examples")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(examples)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "weir.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\nreceivers:\n  - name: desk\n    webhook: {url: \""+receiver+"\", allow_cidrs: [127.0.0.0/8]}\n"...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The published counts of the handbook's file.
const (
	handbookRows = 1_754_155
	largeAmounts = 3_258 // tx.amount > 220
	fourInAnHour = 1_264 // last("1h").by(tx.card).count() >= 4
	tickRows     = 414_569
	clickRows    = 9_999
)

// TestWholeFiles loads all three published files and has every client count.
func TestWholeFiles(t *testing.T) {
	transactions, ticks, clicks := published.File(t, "transactions.csv.gz"), published.File(t, "ticks.csv.gz"), published.File(t, "clicks.csv.gz")
	h := newHook(t)
	a := start(t, writeConfig(t, h.URL), t.TempDir(), nil)
	t.Log(a.load(transactions, "transactions"))
	t.Log(a.load(ticks, "ticks"))
	t.Log(a.load(clicks, "clicks"))
	o := a.settled(2 * time.Minute)

	for _, c := range []struct {
		topic string
		want  int64
	}{{"transactions", handbookRows}, {"ticks", tickRows}, {"clicks", clickRows}} {
		if got := a.kcatCount(c.topic); got != c.want {
			t.Errorf("kcat counts %d of %s, want %d", got, c.topic, c.want)
		}
		if got := a.psqlInt("select count(*) from " + c.topic); got != c.want {
			t.Errorf("SQL counts %d of %s, want %d", got, c.topic, c.want)
		}
	}
	for rule, want := range map[string]int64{"large-amount": largeAmounts, "four-in-an-hour": fourInAnHour} {
		if got := a.psqlInt("select count(*) from alerts where rule = '" + rule + "'"); got != want {
			t.Errorf("%s raised %d alerts, want %d", rule, got, want)
		}
	}
	for _, s := range o.Streams {
		if s.DeadLetters != 0 {
			t.Errorf("%s has %d dead letters", s.Name, s.DeadLetters)
		}
	}
	if got := a.psqlInt("select count(distinct (_topic, _partition, _offset, role)) from decisions"); got != a.psqlInt("select count(*) from decisions") {
		t.Errorf("an event was decided twice: %d identities", got)
	}
	// The sum is exact money: the file's own, by another reader.
	if got, want := a.psql("select sum(amount) from transactions"), sumOfAmounts(t, transactions); got != want {
		t.Errorf("SQL sums the amounts to %s, the file to %s", got, want)
	}
	h.check(t, largeAmounts+fourInAnHour)

	// What is there is not loaded twice.
	if out := a.load(clicks, "clicks"); !strings.Contains(out, "0 rows loaded, 9,999 already there") {
		t.Errorf("a second load of a loaded file says: %s", out)
	}
	a.stop()

	// A second life reads the same, decides nothing again, notifies nobody again.
	posts := h.posts
	b := start(t, a.cmd.Args[3], a.cmd.Args[5], nil)
	b.settled(time.Minute)
	if got := b.psqlInt("select count(*) from alerts"); got != largeAmounts+fourInAnHour {
		t.Errorf("after a restart SQL has %d alerts", got)
	}
	if h.posts != posts {
		t.Errorf("after an orderly restart %d alerts were sent again", h.posts-posts)
	}
	b.stop()
}

// sumOfAmounts adds up TX_AMOUNT in integer cents.
func sumOfAmounts(t testing.TB, path string) string {
	t.Helper()
	var cents int64
	for line := range fileLines(t, path) {
		cell := strings.Split(line, ",")[4]
		whole, frac, _ := strings.Cut(cell, ".")
		n, err := strconv.ParseInt(whole+(frac + "00")[:2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		cents += n
	}
	return strconv.FormatInt(cents/100, 10) + "." + strconv.FormatInt(100+cents%100, 10)[1:]
}

// unpacked opens a gzip file.
func unpacked(t testing.TB, path string) (z *bufio.Reader, end func()) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(r), func() { f.Close() }
}

// fileLines yields the lines of a gzip file after its header.
func fileLines(t testing.TB, path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		z, end := unpacked(t, path)
		defer end()
		lines := bufio.NewScanner(z)
		lines.Scan()
		for lines.Scan() {
			if !yield(lines.Text()) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// part writes the first rows of the handbook's file, with its header, and
// returns the file and what the two rules must fire on it, computed here by
// looking at every row.
func part(t testing.TB, rows int) (path string, large, four int64) {
	t.Helper()
	source := published.File(t, "transactions.csv.gz")
	path = filepath.Join(t.TempDir(), "part.csv")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	io.WriteString(w, "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_TIME_SECONDS,TX_TIME_DAYS,TX_FRAUD,TX_FRAUD_SCENARIO\n") //nolint:errcheck // Flush tells
	times := map[string][]int64{}
	n := 0
	for line := range fileLines(t, source) {
		if n++; n > rows {
			break
		}
		io.WriteString(w, line+"\n") //nolint:errcheck // Flush tells
		cells := strings.Split(line, ",")
		amount, err := strconv.ParseFloat(cells[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		second, err := strconv.ParseInt(cells[5], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if amount > 220 {
			large++
		}
		in := int64(1)
		for _, s := range times[cells[2]] {
			if s > second-3600 {
				in++
			}
		}
		times[cells[2]] = append(times[cells[2]], second)
		if in >= 4 {
			four++
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return path, large, four
}

// killsMax is how often one load is interrupted before it may end.
const killsMax = 6

// TestKillNine kills the appliance at random moments of a load, starts it again
// and resumes, until the file is in; then everything must be there once.
func TestKillNine(t *testing.T) {
	rounds, rows := 3, 150_000
	if seeds.Long(t) {
		rounds, rows = 20, handbookRows
	}
	file, large, four := part(t, rows)
	if rows == handbookRows && (large != largeAmounts || four != fourInAnHour) {
		t.Fatalf("the test's own count of the file is off: %d and %d", large, four)
	}
	random := seeds.Rand(t)
	for round := range rounds {
		h := newHook(t)
		config, data := writeConfig(t, h.URL), t.TempDir()
		a := start(t, config, data, nil)
		kills := 0
		for {
			load := exec.Command(binary, "load", file, "--stream", "transactions", "--kafka-addr", a.kafka, "--http-addr", a.http, "--quiet")
			if err := load.Start(); err != nil {
				t.Fatal(err)
			}
			loaded := make(chan error, 1)
			go func() { loaded <- load.Wait() }()
			var err error
			done := false
			// The moment of the kill is the point of the test, not a wait.
			killAt := time.After(time.Duration(random.Int64N(int64(1500 * time.Millisecond))))
			if kills == killsMax {
				killAt = nil
			}
			select {
			case err = <-loaded:
				done = true
			case <-killAt:
			}
			if done && err != nil {
				t.Fatalf("load: %v\n%s", err, a.out)
			}
			if done && kills > 0 {
				break
			}
			a.kill()
			kills++
			if !done && random.IntN(2) == 0 { // the loader as well, every other time
				load.Process.Kill() //nolint:errcheck // it may have ended
			}
			a = start(t, config, data, a)
			if !done {
				<-loaded // it resumes by itself, or was killed
			}
		}
		o := a.settled(2 * time.Minute)
		t.Logf("round %d: %d kills, %d decisions", round, kills, o.Decisions.Total)
		if got := a.kcatCount("transactions"); got != int64(rows) {
			t.Errorf("round %d: kcat counts %d rows, want %d", round, got, rows)
		}
		if got := a.psqlInt("select count(distinct id) from transactions"); got != int64(rows) {
			t.Errorf("round %d: SQL has %d different ids, want %d", round, got, rows)
		}
		if got := a.psqlInt("select count(*) from transactions"); got != int64(rows) {
			t.Errorf("round %d: SQL counts %d rows, want %d", round, got, rows)
		}
		for rule, want := range map[string]int64{"large-amount": large, "four-in-an-hour": four} {
			if got := a.psqlInt("select count(*) from alerts where rule = '" + rule + "'"); got != want {
				t.Errorf("round %d: %s raised %d alerts, want %d", round, rule, got, want)
			}
		}
		if all, once := a.psqlInt("select count(*) from decisions"), a.psqlInt("select count(distinct (_topic, _partition, _offset, role)) from decisions"); all != once {
			t.Errorf("round %d: %d decisions for %d events: one was decided twice", round, all, once)
		}
		h.check(t, large+four)
		a.stop()
	}
}

// TestMistakes wants every mistake of a person named with its place, exit code
// 2, and nothing started.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ name, old, new, file, want string }{
		{"unknown key", "    topic: transactions\n", "    topik: transactions\n", "weir.yaml", `weir.yaml:8:5: streams.transactions.topik`},
		{"wrong type", "    partitions: 4\n", "    partitions: four\n", "weir.yaml", `weir.yaml:9:17: streams.transactions.partitions`},
		{"rule does not compile", "tx.amount > 220", "tx.amout > 220", "rules/transactions.yaml", `did you mean "amount"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := writeConfig(t, "http://127.0.0.1:1/")
			path := filepath.Join(filepath.Dir(config), c.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), c.old) {
				t.Fatalf("%s does not contain %q", c.file, c.old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(t.TempDir(), "data")
			out, err := exec.Command(binary, "run", "--config", config, "--data-dir", data).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("exit: %v, want code 2\n%s", err, out)
			}
			if !strings.Contains(string(out), c.want) {
				t.Errorf("want %q in:\n%s", c.want, out)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("something was started: the data directory was made")
			}
		})
	}
}
