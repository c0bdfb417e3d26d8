package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/layout"
)

// TestKeyTable: what the table says of a key is what kmsg does with it.
func TestKeyTable(t *testing.T) {
	for _, a := range keyTable() {
		req := kmsg.RequestForKey(a.key)
		if req == nil || kmsg.NameForKey(a.key) == "" {
			t.Errorf("%s: no request has key %d", a.name, a.key)
			continue
		}
		if a.max > req.MaxVersion() {
			t.Errorf("%s: advertised to version %d, known to %d", a.name, a.max, req.MaxVersion())
		}
		for v := a.min; v <= a.max; v++ {
			if req.SetVersion(v); req.IsFlexible() != (v >= a.flexible) {
				t.Errorf("%s v%d: flexible is %v", a.name, v, req.IsFlexible())
			}
		}
		// Produce has a decoder of its own.
		if m := layout.Request(a.key); a.flexible <= a.max && a.key != 0 && (m == nil || m.Flexible() != a.flexible) {
			t.Errorf("%s: no layout from version %d on", a.name, a.flexible)
		}
	}
}

// TestReference: the table of docs/reference/kafka.md has the served keys and
// versions, and no others.
func TestReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "kafka.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+ \| \w+ \| [\d to]+?) \|`).FindAllSubmatch(text, -1) {
		told[string(row[1])] = true
	}
	for _, a := range keyTable() {
		low := a.min
		if a.key == 0 {
			low = 3 // those below are refused
		}
		row := fmt.Sprintf("%d | %s | %d to %d", a.key, a.name, low, a.max)
		if low == a.max {
			row = fmt.Sprintf("%d | %s | %d", a.key, a.name, low)
		}
		if !told[row] {
			t.Errorf("docs/reference/kafka.md has no row %q", row)
		}
		delete(told, row)
	}
	for row := range told {
		t.Errorf("docs/reference/kafka.md tells of %q, which is not served", row)
	}
}
