package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestStreamCommands makes, changes and removes a stream of a running weir.
func TestStreamCommands(t *testing.T) {
	n, _ := startNode(t, t.TempDir(), payConfig)
	run := func(in string, code int, want string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := Main(append(append([]string{"stream"}, args...), "--http-addr", n.HTTPAddr()), strings.NewReader(in), &out, &errs); got != code || !strings.Contains(out.String()+errs.String(), want) {
			t.Errorf("%q: exit %d\n%s%s\nwant %d and %q", args, got, out.String(), errs.String(), code, want)
		}
	}
	const first = "# made by hand\nstreams:\n  visits:\n    time: at # when\n    key: who\n    fields: {at: {type: timestamp, layout: unix_ms, from: t}, who: {type: string, sensitive: hmac}, n: int64}\n"
	run(first, exitDone, "visits: version 1, 3 fields, topic visits with 4 partitions", "apply", "-f", "-")
	run(first, exitDone, "visits: version 1, 3 fields", "apply", "-f", "-")
	run("", exitDone, "visits  visits  4           json    who   3       1        0        api", "list")
	run("", exitDone, "at     timestamp  t     unix_ms  -", "show", "visits")
	run("", exitDone, "who    string     -     -        hmac", "show", "visits")
	run("", exitDone, `"declared":"api"`, "show", "visits", "--json")
	run(strings.Replace(first, "n: int64", "n: strng", 1), exitMistake, `visits: streams.visits.fields.n: found the type "strng"`, "apply", "-f", "-")
	run(strings.Replace(first, "n: int64", "n: bool, more: string", 1), exitMistake, "fields.n: line 3: was a int64 and is a bool now", "apply", "-f", "-")
	run(strings.Replace(first, "n: int64", "n: double", 1), exitDone, "visits: version 2", "apply", "-f", "-")
	run("streams:\n", exitMistake, "declares no stream", "apply", "-f", "-")
	run("streams: [", exitMistake, "not valid YAML", "apply", "-f", "-")
	run("streams:\n  pay: {time: ts, fields: {ts: timestamp}}\n", exitMistake, "pay is declared in weir.yaml: change it there", "apply", "-f", "-")
	run("", exitMistake, `there is no stream "vists": did you mean "visits"?`, "show", "vists")
	run("", exitDone, "visits is removed; its topic and records stay", "delete", "visits")
	run("", exitMistake, `there is no stream "visits"`, "delete", "visits")
}
