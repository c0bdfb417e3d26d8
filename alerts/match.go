package alerts

import (
	"slices"

	"github.com/weirstream/weir/ingest/event"
)

// Severities are the severities of alerts, from the least to the greatest.
var Severities = []string{"low", "medium", "high", "critical"}

// Match says which alerts a receiver wants. The zero Match wants all.
type Match struct {
	Rules       []string // ids; empty: any
	Streams     []string // names; empty: any
	SeverityMin string   // one of Severities; empty: any
}

// Matches reports whether a receiver with this Match wants a. An alert of an
// unknown severity passes any SeverityMin: it is better heard than lost.
func (m Match) Matches(a *event.Alert) bool {
	if len(m.Rules) > 0 && !slices.Contains(m.Rules, a.Rule) {
		return false
	}
	if len(m.Streams) > 0 && !slices.Contains(m.Streams, a.Stream) {
		return false
	}
	s := slices.Index(Severities, a.Severity)
	return s < 0 || s >= slices.Index(Severities, m.SeverityMin)
}
