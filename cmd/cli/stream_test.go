package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/test/published"
)

// TestInferPublished infers each of the published files and reads every row of it
// with the block, unedited: none may be a dead letter.
func TestInferPublished(t *testing.T) {
	for file, has := range map[string][]string{
		"transactions.csv.gz": {"1,754,155 fit, 0 do not", "time: TX_DATETIME", "id: TRANSACTION_ID", "key: CUSTOMER_ID", "TX_AMOUNT: decimal(2)", `TX_DATETIME: {type: timestamp, layout: "%Y-%m-%d %H:%M:%S"}`},
		"ticks.csv.gz":        {"414,569 fit, 0 do not", "time: recv_ns", "lateness: 15m ", "key: symbol", "price: {type: decimal(8), optional: true}", "event_ms: {type: timestamp, layout: unix_ms, optional: true}"},
		"clicks.csv.gz":       {"9,999 fit, 0 do not", "time: ts", "lateness: 1m ", "key: visitor", "bytes: int64"},
	} {
		t.Run(file, func(t *testing.T) {
			path := published.File(t, file)
			var out, errs bytes.Buffer
			if code := Main([]string{"stream", "infer", path, "--quiet"}, strings.NewReader(""), &out, &errs); code != exitDone {
				t.Fatalf("exit code %d: %s", code, errs.String())
			}
			for _, want := range has {
				if !strings.Contains(out.String(), want) {
					t.Errorf("there is no %q in\n%s", want, out.String())
				}
			}
			if _, err := config.Parse("weir.yaml", out.Bytes(), config.ParseOptions{}); err != nil {
				t.Fatalf("%v in\n%s", err, out.String())
			}
		})
	}
}

func TestInferCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "select.csv")
	if err := os.WriteFile(path, []byte("t,a\n2026-01-01,1\n2026-01-02,\"1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := Main(append([]string{"stream", "infer"}, args...), strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, text := run(path); code != exitMistake || !strings.Contains(text, "--name") {
		t.Error(code, text)
	}
	if code, text := run(path, "--name", "choice"); code != exitDone || !strings.HasPrefix(text, "# Checked with every row of the file: 1 fit, 1 do not.\nstreams:\n  choice:") {
		t.Error(code, text)
	}
	if code, text := run(path + "x"); code != exitMistake || !strings.Contains(text, "no such file") {
		t.Error(code, text)
	}
	if code, text := run(); code != exitMistake {
		t.Error(code, text)
	}
}
