package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/published"
)

// row is what the reference says of a client.
func (c *client) row(root string) (string, error) {
	version, err := c.version(root)
	if err != nil {
		return "", err
	}
	yes := func(can bool) string {
		if can {
			return "yes"
		}
		return "no"
	}
	codecs := strings.TrimPrefix(strings.Join(c.codecs, ", "), "none, ")
	groups := "by its members"
	if c.next {
		groups += ", by the broker"
	}
	transactions := "records"
	switch {
	case c.transactions && c.offsets:
		transactions = "records and offsets"
	case c.offsets:
		transactions = "offsets"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |", c.name, version, codecs, yes(c.idempotent), groups, transactions,
		yes(c.admin), yes(c.batches), c.remarks), nil
}

// TestReference: docs/reference/kafka.md says of each client what is tried here.
func TestReference(t *testing.T) {
	root := published.Root(t)
	body, err := os.ReadFile(filepath.Join(root, "docs", "reference", "kafka.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		row, err := c.row(root)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), "\n"+row+"\n") {
			t.Errorf("docs/reference/kafka.md has to say\n%s", row)
		}
	}
}
