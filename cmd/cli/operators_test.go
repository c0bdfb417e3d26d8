package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRuleOperators shows what the windows of a running weir hold.
func TestRuleOperators(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	rules := "id: often\nstream: pay\nwhen: last(\"1h\").by(pay.card).where(pay.amount > 1).count() > 3\n---\nid: large\nstream: pay\nwhen: pay.amount > 5\n"
	if err := os.WriteFile(filepath.Join(dir, "rules", "r.yaml"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	n, _ := startNode(t, dir, payConfig+"rules: rules\n")
	run := func(code int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := Main(append(args, "--http-addr", n.HTTPAddr()), strings.NewReader(""), &out, &errs); got != code {
			t.Errorf("%q: exit %d\n%s%s", args, got, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	file := filepath.Join(dir, "pay.ndjson")
	events := `{"ts":"2026-01-01T00:00:00Z","card":"a","amount":2}` + "\n" + `{"ts":"2026-01-01T00:00:01Z","card":"a","amount":3}` + "\n" + `{"ts":"2026-01-01T00:00:02Z","card":"b","amount":2}` + "\n"
	if err := os.WriteFile(file, []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	run(exitDone, "load", file, "--stream", "pay", "--kafka-addr", n.KafkaAddr(), "--quiet")
	out := ""
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out, "  a    2       "); time.Sleep(20 * time.Millisecond) {
		if out = run(exitDone, "rule", "operators", "often", "--keys"); time.Now().After(deadline) {
			t.Fatalf("not within a minute: two events of a in\n%s", out)
		}
	}
	if !strings.Contains(out, "pay     by(pay.card).where(pay.amount > 1)  2     3 ") || !strings.Contains(out, "often\n") {
		t.Error(out)
	}
	if out := run(exitDone, "rule", "operators", "large"); !strings.Contains(out, "large reads no window") {
		t.Error(out)
	}
	if out := run(exitDone, "rule", "operators", "--json"); !strings.Contains(out, `"name":"by(pay.card).where(pay.amount`) || !strings.Contains(out, `"top_keys":[{"key":"a","events":2`) {
		t.Error(out)
	}
	if out := run(exitDone, "rule", "plan", "--config", filepath.Join(dir, "weir.yaml")); !strings.Contains(out, "pay     by(pay.card).where(pay.amount > 1)  1h     where events arrive  2") {
		t.Error(out)
	}
	if out := run(exitMistake, "rule", "operators", "offen"); !strings.Contains(out, `did you mean "often"?`) {
		t.Error(out)
	}
}
