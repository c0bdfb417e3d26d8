package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTableCommands changes a list and a table of a running weir.
func TestTableCommands(t *testing.T) {
	dir := t.TempDir()
	n, _ := startNode(t, dir, payConfig+"lists:\n  blocked: int64\ntables:\n  shops: {key: [city, no], fields: {city: string, no: int64, risk: {type: decimal(2), optional: true}}}\n")
	run := func(code int, want string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := Main(append(args, "--http-addr", n.HTTPAddr()), strings.NewReader("value,_reason\n7,seven\n8,\n"), &out, &errs); got != code || !strings.Contains(out.String()+errs.String(), want) {
			t.Errorf("%q: exit %d\n%s%s\nwant %d and %q", args, got, out.String(), errs.String(), code, want)
		}
		return out.String()
	}
	run(exitDone, "blocked  0        value  value int64  the API", "list", "show")
	run(exitDone, "blocked is empty", "list", "show", "blocked")
	run(exitDone, "blocked: 2 changed, 2 entries now", "list", "add", "blocked", "41", "42", "--reason", "case 77", "--author", "ann", "--expires", "2026-01-31T12:00:00Z")
	run(exitDone, "blocked: 0 changed, 2 entries now", "list", "add", "blocked", "41", "--reason", "case 77", "--author", "ann", "--expires", "2026-01-31T12:00:00Z")
	run(exitMistake, `entries[0].value: found "x", expected a whole number`, "list", "add", "blocked", "x")
	run(exitMistake, `--expires "soon": expected a time`, "list", "add", "blocked", "1", "--expires", "soon")
	run(exitMistake, `there is no list "bloked": did you mean "blocked"?`, "list", "show", "bloked")
	if out := run(exitDone, "case 77", "list", "show", "blocked", "--search", "42"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "2026-01-31T12:00:00Z") {
		t.Errorf("search: %s", out)
	}
	run(exitDone, "blocked: 1 changed, 1 entries now", "list", "remove", "blocked", "41", "43")
	run(exitDone, "blocked: 3 changed, 2 entries now", "list", "import", "blocked", "-")
	run(exitDone, "value,_expires,_reason\n7,,seven\n8,,\n", "list", "export", "blocked")
	run(exitDone, "shops: 1 changed, 1 entries now", "table", "add", "shops", "city=Ulm", "no=3", "risk=0.50")
	run(exitDone, `{"city":"Ulm","no":3,"risk":"0.50","_since"`, "table", "show", "shops", "--json")
	run(exitMistake, `found "Ulm", expected FIELD=VALUE`, "table", "add", "shops", "Ulm")
	file := filepath.Join(dir, "out.csv")
	run(exitDone, "", "table", "export", "shops", "--output", file)
	if text, err := os.ReadFile(file); err != nil || string(text) != "city,no,risk,_expires,_reason\nUlm,3,0.50,,\n" {
		t.Errorf("%s, %v", text, err)
	}
	run(exitDone, "shops: 1 changed, 0 entries now", "table", "remove", "shops", "Ulm", "3")
}
