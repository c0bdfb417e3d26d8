package node

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// writeRules replaces the rule file of a node's directory.
func writeRules(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "rules", "rules.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func changes(v *ReloadView) string {
	var out []string
	for _, r := range v.Rules {
		text := r.ID + " " + r.Change
		if r.Warming {
			text += " warming"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// decidedOnce fails where two alerts are of one event and rule, and returns how many there
// are.
func decidedOnce(t *testing.T, n *Node) int64 {
	t.Helper()
	res, err := n.query(t.Context(), "SELECT count(*), count(DISTINCT id) FROM alerts")
	if err != nil {
		t.Fatal(err)
	}
	if asInt(res.Rows[0][0]) != asInt(res.Rows[0][1]) {
		t.Errorf("%v alerts, of which %v differ", res.Rows[0][0], res.Rows[0][1])
	}
	return asInt(res.Rows[0][0])
}

// TestReload edits the rules of a running node: mistakes change nothing, the rest is in
// force for the next event, with the windows of before, and stays so after a restart.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	receiver := "http://127.0.0.1:1/"
	n, stop := startNode(t, dir, receiver)
	first := n.program.Load().ID()
	fired := func(rule string, want int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s has fired %d times", rule, want), func() bool {
			i := slices.IndexFunc(n.ruleViews(), func(r RuleView) bool { return r.ID == rule })
			return i >= 0 && n.ruleViews()[i].Fired == want
		})
	}
	produce(t, n, payment("a", 1, "50"), payment("a", 2, "150"), payment("a", 3, "1"))
	fired("large", 1)
	fired("thrice", 1)

	writeRules(t, dir, strings.Replace(testRules, "tx.amount > 100", "tx.amout > 100", 1))
	if text := ask(t, n, "POST", "/-/reload", "", "", 422, nil); !strings.Contains(text, `rules.yaml:4:10: large.when: `) || !strings.Contains(text, `(did you mean "amount"?)`) || !strings.Contains(text, "nothing was changed") {
		t.Errorf("reload of a mistake: %s", text)
	}
	if text := ask(t, n, "POST", "/v1/reload", "", "", 422, nil); !strings.Contains(text, "rules.yaml:4:10") {
		t.Errorf("reload of a mistake: %s", text)
	}
	if n.program.Load().ID() != first || n.engine.Status()[0].Program != first {
		t.Error("a mistake changed the program")
	}
	if got := metric(t, n, "weir_config_last_reload_successful"); got != "0" {
		t.Errorf("weir_config_last_reload_successful is %s", got)
	}

	// The threshold of one rule, a new rule without windows of its own, one gone.
	writeRules(t, dir, strings.Replace(testRules, "tx.amount > 100", "tx.amount > 10", 1)+"---\nid: twice\nstream: payments\nwhen: last(\"1h\").by(tx.card).count() >= 2\nmode: shadow\n")
	var v ReloadView
	ask(t, n, "POST", "/v1/reload", "", "", 200, &v)
	if got := changes(&v); got != "large changed, thrice unchanged, twice new" || v.Before != first || v.Program == first {
		t.Errorf("%s: %+v", got, v)
	}
	if got := metric(t, n, "weir_config_last_reload_successful"); got != "1" {
		t.Errorf("weir_config_last_reload_successful is %s", got)
	}
	produce(t, n, payment("a", 4, "20"))
	fired("large", 1) // it counts anew: it is another condition
	fired("thrice", 2)
	fired("twice", 1)

	// A new window is made from the log: the events of the last two hours are there. A rule
	// that was edited beside it does not wait.
	writeRules(t, dir, strings.Replace(testRules, "severity: high", "severity: critical", 1)+"---\nid: sum\nstream: payments\nwhen: last(\"2h\").by(tx.card).sum(tx.amount) > 220\n")
	ask(t, n, "POST", "/v1/reload", "", "", 200, &v)
	if got := changes(&v); got != "large changed, thrice changed, sum new warming, twice removed" {
		t.Errorf("%s", got)
	}
	eventually(t, "the program is in force", func() bool {
		return !slices.ContainsFunc(n.ruleViews(), func(r RuleView) bool { return r.State != "active" })
	})
	produce(t, n, payment("a", 5, "2"))
	fired("sum", 1)

	// Nothing that decides has changed.
	text := ask(t, n, "POST", "/-/reload", "", "", 200, nil)
	if !strings.Contains(text, "3 unchanged, 0 changed, 0 new, 0 removed") {
		t.Error(text)
	}
	eventually(t, "all alerts in SQL", func() bool { return decidedOnce(t, n) == 6 })
	stop()
	n, _ = startIn(t, dir)
	produce(t, n, payment("a", 6, "1"))
	fired("sum", 1)
	eventually(t, "all alerts in SQL", func() bool { return decidedOnce(t, n) == 8 })
	for _, id := range []string{first, v.Program} {
		if p, err := n.programs.get(id); err != nil || p.ID() != id {
			t.Errorf("the program %s: %v", id, err)
		}
	}
}

// metric is a metric without labels.
func metric(t *testing.T, n *Node, name string) string {
	t.Helper()
	for line := range strings.SplitSeq(ask(t, n, "GET", "/metrics", "", "", 200, nil), "\n") {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

// TestReloadFindsRules: the directory of rules may be made when the node runs.
func TestReloadFindsRules(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte("streams:\n  base: {time: ts, fields: {ts: timestamp}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, _ := startIn(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	writeRules(t, dir, "id: any\nstream: base\nwhen: 'true'\n")
	var v ReloadView
	ask(t, n, "POST", "/v1/reload", "", "", 200, &v)
	if got := changes(&v); got != "any new" {
		t.Error(got)
	}
}

// TestReloadRefusesReceiver: a receiver that waits for a rule which goes is a mistake.
func TestReloadRefusesReceiver(t *testing.T) {
	dir := t.TempDir()
	n, _ := startConfigured(t, dir, strings.Replace(fmt.Sprintf(testConfig, "http://127.0.0.1:1/"), "webhook:", "match: {rule: thrice}\n    webhook:", 1))
	writeRules(t, dir, "id: large\nstream: payments\nwhen: tx.amount > 100\n")
	if text := ask(t, n, "POST", "/-/reload", "", "", 422, nil); !strings.Contains(text, `there is no rule "thrice"`) {
		t.Error(text)
	}
	if _, err := http.Get("http://" + n.HTTPAddr() + "/-/healthy"); err != nil {
		t.Error(err)
	}
	if got := len(n.ruleViews()); got != 2 {
		t.Errorf("%d rules", got)
	}
}

// TestPrograms: the catalogue survives crashes at each of its writes, says what is wrong
// with a file, and since when each rule is what it is.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	n, stop := startNode(t, dir, "http://127.0.0.1:1/")
	compile := func(set rules.Set) (*rules.Program, error) { return rules.Compile(set, n.catalog(n.streams())) }
	program := func(text string) *rules.Program {
		t.Helper()
		set, err := rules.ParseFile("r.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		p, err := compile(set)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	stop()
	mem := vfs.NewMem(1)
	if err := errors.Join(mem.MkdirAll("data"), mem.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	open := func(fs vfs.FS) *programs {
		t.Helper()
		c, err := openPrograms(fs, "data", compile, n.logger)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open(mem)
	a := program(testRules)
	b := program(strings.Replace(testRules, "> 100", "> 90", 1))
	at := func(hour int) time.Time { return event.Time(int64(hour) * int64(time.Hour)).Time() }
	for hour, p := range []*rules.Program{a, b, b, a} {
		if err := c.declare(p, at(hour)); err != nil {
			t.Fatal(err)
		}
		for _, crashed := range []*vfs.Mem{mem.CrashClone(), mem.CrashClone()} {
			again := open(crashed)
			if got := again.declared(); got == nil || got.ID != p.ID() {
				t.Errorf("hour %d: after a crash %+v is declared", hour, got)
			}
			for id := range again.known {
				if back, err := again.get(id); err != nil || back.ID() != id {
					t.Errorf("hour %d: %s: %v", hour, id, err)
				}
			}
		}
	}
	since := c.since(a.ID())
	if !since["thrice"].Equal(at(0)) || !since["large"].Equal(at(3)) {
		t.Errorf("rules are what they are since %v", since)
	}
	ended := c.ended()
	if len(ended) != 1 || ended[0].ID != b.ID() || !ended[0].Until.Equal(at(3)) {
		t.Errorf("ended: %+v", ended)
	}

	if err := vfs.WriteFile(mem, c.file(b.ID()), []byte(`{"format":1,`)); err != nil {
		t.Fatal(err)
	}
	c = open(mem)
	if _, err := c.get(b.ID()); err == nil || !strings.Contains(err.Error(), c.file(b.ID())) || !strings.Contains(err.Error(), "restore the file from a backup") {
		t.Errorf("a torn file: %v", err)
	}
	if _, err := c.get("0123456789abcdef"); err == nil || !strings.Contains(err.Error(), "is not in") {
		t.Errorf("a program that is not there: %v", err)
	}
	if lines := c.troubles(); len(lines) != 2 {
		t.Errorf("troubles: %q", lines)
	}
	if err := c.declare(b, at(5)); err != nil { // its file is written anew
		t.Fatal(err)
	}
	if _, err := c.get(b.ID()); err != nil {
		t.Error(err)
	}
	// An edited file is not what decided.
	data, err := vfs.ReadFile(mem, c.file(a.ID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(mem, c.file(a.ID()), []byte(strings.Replace(string(data), "100", "101", 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := open(mem).get(a.ID()); err == nil || !strings.Contains(err.Error(), "was edited") {
		t.Errorf("an edited file: %v", err)
	}
	// One of which the file is gone, is named.
	if err := mem.Remove(c.file(a.ID())); err != nil {
		t.Fatal(err)
	}
	if _, err := open(mem).get(a.ID()); err == nil || !strings.Contains(err.Error(), a.ID()) {
		t.Errorf("a missing file: %v", err)
	}
}
