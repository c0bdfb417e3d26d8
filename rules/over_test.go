package rules

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/schema"
)

// texts are rules by their IDs, as ID: WHEN, in order.
func texts(set []*Rule) (out []string) {
	for _, r := range set {
		out = append(out, r.ID+": "+r.When)
	}
	return out
}

func compileSet(t testing.TB, texts ...string) *Program {
	t.Helper()
	var set Set
	for _, text := range texts {
		id, when, _ := strings.Cut(text, ": ")
		set = append(set, Rule{ID: id, Stream: "transactions", When: when, Action: "alert", Mode: "live"})
	}
	p, err := Compile(set, Catalog{Streams: []*schema.Stream{transactions(), clicks()}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOver has rules decide that need nothing new, and in the place of those that do what
// was there; what windows are kept stays the same.
func TestOver(t *testing.T) {
	const (
		hour  = `last("1h").by(tx.card).count() > `
		day   = `last("24h").by(tx.card).count() > `
		items = `last("1h").by(tx.items).count() > `
	)
	before := compileSet(t, "edited: "+hour+"3", "waits: tx.amount > 5", "gone: "+items+"7", "same: tx.items > 1")
	for name, c := range map[string]struct{ next, want []string }{
		"all kinds": {
			[]string{"edited: " + hour + "4", "waits: " + day + "5", "new: " + items + "9", "fresh: " + `last("1h").by(tx.country).count() > 2`, "same: tx.items > 1"},
			[]string{"edited: " + hour + "4", "waits: tx.amount > 5", "new: " + items + "9", "same: tx.items > 1"},
		},
		"one that is gone": {
			[]string{"edited: " + hour + "3", "waits: " + day + "5", "same: tx.items > 1"},
			[]string{"edited: " + hour + "3", "waits: tx.amount > 5", "same: tx.items > 1"},
		},
		"nothing is won": {[]string{"edited: " + hour + "3", "waits: tx.amount > 5", "gone: " + items + "7", "same: tx.items > 1", "fresh: " + day + "1"}, nil},
		"nothing lacks":  {[]string{"edited: " + hour + "8", "gone: " + items + "7"}, nil},
	} {
		next := compileSet(t, c.next...)
		over, err := next.Over(before)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case over == nil:
			if c.want != nil {
				t.Errorf("%s: nothing of it", name)
			}
		default:
			p := over.(*Program)
			if got := texts(p.deciding()); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			if !maps.Equal(p.operators(), before.operators()) {
				t.Errorf("%s: it keeps %v, the one before %v", name, p.operators(), before.operators())
			}
			if p.ID() != next.ID()+engine.Over+before.ID() {
				t.Errorf("%s: its ID is %s", name, p.ID())
			}
			if again, err := next.Over(p); err != nil || again != nil {
				t.Errorf("%s: over itself it is %v, %v", name, again, err)
			}
			if silent := p.rule("gone"); silent != nil {
				t.Errorf("%s: a rule that is gone is there", name)
			}
		}
	}
}
