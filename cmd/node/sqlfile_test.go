package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestSQLFileDeleted deletes the SQL database while the node is stopped, with and
// without its write-ahead log: it is filled from the log again.
func TestSQLFileDeleted(t *testing.T) {
	for _, walStays := range []bool{false, true} {
		t.Run(fmt.Sprint("wal stays ", walStays), func(t *testing.T) {
			dir := t.TempDir()
			n, stop := startNode(t, dir, "http://127.0.0.1:1/")
			produce(t, n, payment("a", 1, "50"), payment("b", 2, "150"))
			count := func() int64 {
				res, err := n.query(t.Context(), "SELECT count(*) FROM payments")
				if err != nil {
					t.Fatal(err)
				}
				return asInt(res.Rows[0][0])
			}
			eventually(t, "rows in SQL", func() bool { return count() == 2 })
			file := filepath.Join(dir, "data", sqlDir, "weir.duckdb")
			wal, err := os.ReadFile(file + ".wal") // as a kill would leave it
			if err != nil || len(wal) == 0 {
				t.Fatalf("%d bytes, %v", len(wal), err)
			}
			stop()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if walStays {
				if err := os.WriteFile(file+".wal", wal, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			n, _ = startNode(t, dir, "http://127.0.0.1:1/")
			eventually(t, "rows in SQL again", func() bool { return count() == 2 })
		})
	}
}
