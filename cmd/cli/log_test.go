package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/log/commitlog"
)

// TestLogCommands wants the commands to find the log in a data directory and in
// the directory that the log's own messages name, and to make none.
func TestLogCommands(t *testing.T) {
	dir := t.TempDir()
	l, err := commitlog.Open(t.Context(), filepath.Join(dir, "log"), commitlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(dir, "nowhere")
	for _, c := range []struct {
		args string
		code int
	}{
		{"verify --data-dir " + dir, exitDone}, {"verify --data-dir " + filepath.Join(dir, "log"), exitDone},
		{"repair --topic t --partition 0 --data-dir " + dir, exitDone}, {"repair --topic t --partition 0 --data-dir " + filepath.Join(dir, "log"), exitDone},
		{"verify --data-dir " + nowhere, exitMistake},
	} {
		var stderr strings.Builder
		if code := Main(append([]string{"log"}, strings.Fields(c.args)...), nil, io.Discard, &stderr); code != c.code {
			t.Errorf("weir log %s: %d, want %d: %s", c.args, code, c.code, stderr.String())
		}
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("weir log verify made a log")
	}
}
