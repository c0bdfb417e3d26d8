package node

import (
	"fmt"
	"time"
)

// longTransaction is how long a transaction may hold a stream back before it is
// named.
const longTransaction = 30 * time.Second

// heldBack names the transactions that have been open for long at the time now and
// keep events of streams from being decided, one line for each stream and
// transaction.
func (n *Node) heldBack(now time.Time) (lines []string) {
	streams := map[string]string{} // by topic
	for _, s := range n.streams() {
		streams[s.Topic] = s.Schema.Stream
	}
	for _, t := range n.broker.OpenTransactions() {
		if now.Sub(t.Since) < longTransaction {
			continue
		}
		named := map[string]bool{}
		for _, part := range t.Partitions {
			stream, ok := streams[part.Topic]
			p, err := n.log.Partition(part.Topic, part.Partition)
			if !ok || named[stream] || err != nil {
				continue
			}
			first, _, open := p.OpenTransaction(t.Producer)
			if !open {
				continue
			}
			named[stream] = true
			lines = append(lines, fmt.Sprintf("stream %s: transaction %q of producer %d has been open for %v; events of partition %d wait from offset %d on until its producer ends it or its timeout of %v aborts it; to abort it now: weir transaction abort %s",
				stream, t.ID, t.Producer, now.Sub(t.Since).Round(time.Second), part.Partition, first, t.Timeout, t.ID))
		}
	}
	return lines
}
