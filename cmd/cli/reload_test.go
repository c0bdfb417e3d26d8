package cli

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/cmd/node"
)

// TestRuleReload edits the rules of a running weir: a mistake is named and exits 2, the
// rest is told rule by rule, and shown by the list; SIGHUP does the same.
func TestRuleReload(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "rules", "r.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const often, large = "id: often\nstream: pay\nwhen: last(\"1h\").by(pay.card).count() > 3\n", "---\nid: large\nstream: pay\nwhen: pay.amount > 5\n"
	write(often + large)
	n, _ := startNode(t, dir, payConfig+"rules: rules\n")
	run := func(code int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := Main(append(args, "--http-addr", n.HTTPAddr()), strings.NewReader(""), &out, &errs); got != code {
			t.Errorf("%q: exit %d\n%s%s", args, got, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	write(strings.Replace(often, "3", "x", 1) + strings.Replace(large, "amount", "amoun", 1))
	places := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(filepath.Join(dir, "rules", "r.yaml")) + `:\d+:\d+: `)
	if out := run(exitMistake, "rule", "reload"); len(places.FindAllString(out, -1)) != 2 || strings.Count(out, "\n") != 2 {
		t.Errorf("not two lines that each begin with a place:\n%s", out)
	}
	write(strings.Replace(often, "3", "x", 1) + large)
	if out := run(exitMistake, "rule", "reload"); len(places.FindAllString(out, -1)) != 1 {
		t.Errorf("not a line that begins with a place:\n%s", out)
	}
	write(often + strings.Replace(large, "5", "6", 1) + "---\nid: far\nstream: pay\nwhen: last(\"3h\").by(pay.card).sum(pay.amount) > 100\n")
	out := run(exitDone, "rule", "reload")
	for _, want := range []string{"rules: 1 unchanged, 1 changed, 1 new, 0 removed; program ", "changed    large: decides from the next event on", "new        far: its windows are made from the log first"} {
		if !strings.Contains(out, want) {
			t.Errorf("the answer lacks %q:\n%s", want, out)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if out = run(exitDone, "rule", "list", "--running"); strings.Contains(out, "SINCE") && strings.Count(out, "active") == 3 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("not within a minute: three active rules in\n%s", out)
		}
	}
	if out := run(exitDone, "rule", "list", "--json"); !strings.Contains(out, `"rules":[{"id":"often"`) || !strings.Contains(out, `"state":"active"`) || !strings.Contains(out, `"keyed":[]`) {
		t.Error(out)
	}
	var offline, errs bytes.Buffer
	if code := Main([]string{"rule", "list", "--config", filepath.Join(dir, "weir.yaml")}, strings.NewReader(""), &offline, &errs); code != exitDone || strings.Contains(offline.String(), "SINCE") || !strings.Contains(offline.String(), "far") {
		t.Errorf("exit %d: %s%s", code, offline.String(), errs.String())
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // which ends a process that does not ask for it
	defer signal.Stop(hangups)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); reloadOnHangup(ctx, n) }()
	write(often)
	for deadline := time.Now().Add(time.Minute); ; {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		<-hangups
		if out := run(exitDone, "rule", "list"); !strings.Contains(out, "large") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("not within a minute: one rule in\n%s", out)
		}
	}
	cancel()
	<-done
}

// TestPrintTrouble: what keeps a rule from its work is told below the table.
func TestPrintTrouble(t *testing.T) {
	var out strings.Builder
	if err := printRules(&out, []node.RuleView{
		{ID: "new", State: "warming", Warming: &node.WarmingView{Percent: 1.5, Rows: 3, Of: 200}, Trouble: "the disk\x1b is gone"},
		{ID: "old", State: "failing", Trouble: "division by zero"},
		{ID: "good", State: "active"},
	}); err != nil {
		t.Fatal(err)
	}
	const want = "\nnew: its windows could not be made, which is tried again: the disk? is gone\nold is failing: division by zero\n"
	if !strings.HasSuffix(out.String(), want) || !strings.Contains(out.String(), "warming 1.5 % (3 of 200)") {
		t.Error(out.String())
	}
}
