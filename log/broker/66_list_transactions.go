package broker

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// ListTransactions: the transactional ids, or those that filters let through
// (KIP-664), in order.
//
// Versions: 0 is flexible; 1 can ask for transactions that have been open for
// longer than a time (KIP-994), 2 for ids that match a regular expression, the
// whole of them (KIP-1152).

// maxPattern bounds a regular expression, which is held against every id.
const maxPattern = 1 << 10

func listTransactions(_ context.Context, c *conn, req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := response[*kmsg.ListTransactionsResponse](req)
	if !c.srv.txns.loaded.Load() {
		resp.ErrorCode = c.srv.code(kerr.CoordinatorLoadInProgress)
		return resp
	}
	var pattern *regexp.Regexp
	if p := req.TransactionalIDPattern; p != nil && *p != "" {
		err := errors.New("too long")
		if len(*p) <= maxPattern {
			pattern, err = regexp.Compile(`^(?:` + *p + `)$`)
		}
		if err != nil {
			resp.ErrorCode = c.srv.code(kerr.InvalidRegularExpression)
			return resp
		}
	}
	for _, name := range req.StateFilters {
		if _, ok := group.ParseTxnState(name); !ok {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	now := time.Now()
	states, producers := setOf(req.StateFilters), setOf(req.ProducerIDFilters)
	for _, t := range c.srv.txns.all() {
		open := req.Version < 1 || req.DurationFilterMillis < 0 ||
			!t.Started.IsZero() && now.Sub(t.Started) > time.Duration(req.DurationFilterMillis)*time.Millisecond
		switch {
		case len(states) > 0 && !states[t.State.String()],
			len(producers) > 0 && !producers[t.Producer.ID],
			!open, pattern != nil && !pattern.MatchString(t.ID):
			continue
		}
		one := kmsg.NewListTransactionsResponseTransactionState()
		one.TransactionalID, one.ProducerID, one.TransactionState = t.ID, t.Producer.ID, t.State.String()
		resp.TransactionStates = append(resp.TransactionStates, one)
	}
	slices.SortFunc(resp.TransactionStates, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
		return cmp.Compare(a.TransactionalID, b.TransactionalID)
	})
	return resp
}
