package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newTransaction() *cobra.Command {
	cmd := &cobra.Command{Use: "transaction", Short: "List transactions, and abort one that holds readers back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newTransactionList(), newTransactionAbort())
	return cmd
}

// transactionView is a transactional id as --json prints it.
type transactionView struct {
	ID         string             `json:"id"`
	State      string             `json:"state"`
	Producer   int64              `json:"producer"`
	Epoch      int16              `json:"epoch"`
	Since      *time.Time         `json:"since,omitempty"` // of the transaction
	Timeout    string             `json:"timeout"`
	Partitions map[string][]int32 `json:"partitions"`
}

func (v *transactionView) ongoing() bool { return v.State == "Ongoing" }

// viewTransactions are the transactional ids there are, or those named, in order.
func viewTransactions(ctx context.Context, adm *kadm.Client, ids ...string) ([]transactionView, error) {
	if len(ids) == 0 {
		list, err := adm.ListTransactions(ctx, nil, nil)
		if err != nil {
			return nil, explain(err, "")
		}
		if ids = list.TransactionalIDs(); len(ids) == 0 {
			return nil, nil
		}
	}
	described, err := adm.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, explain(err, "")
	}
	var views []transactionView
	for _, d := range described.Sorted() {
		if errors.Is(d.Err, kerr.TransactionalIDNotFound) {
			return nil, mistake{fmt.Errorf("there is no transactional id %q; see: weir transaction list", d.TxnID)}
		}
		if d.Err != nil {
			return nil, fmt.Errorf("transactional id %s: %w", d.TxnID, explain(d.Err, ""))
		}
		v := transactionView{ID: d.TxnID, State: d.State, Producer: d.ProducerID, Epoch: d.ProducerEpoch,
			Timeout: (time.Duration(d.TimeoutMillis) * time.Millisecond).String(), Partitions: map[string][]int32{}}
		if d.StartTimestamp >= 0 {
			since := time.UnixMilli(d.StartTimestamp).UTC()
			v.Since = &since
		}
		d.Topics.Each(func(topic string, partition int32) { v.Partitions[topic] = append(v.Partitions[topic], partition) })
		views = append(views, v)
	}
	return views, nil
}

func newTransactionList() *cobra.Command {
	var f kafkaFlags
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List open transactions", Args: cobra.NoArgs,
		Long: `Lists the transactions that are not completed: readers of committed records wait for
them. With --all, every transactional id.`,
		Example: "  weir transaction list\n  weir transaction list --all --json | jq .id",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				views, err := viewTransactions(ctx, adm)
				if err != nil {
					return err
				}
				var rows [][]string
				for i := range views {
					v := &views[i]
					if !all && v.Since == nil {
						continue
					}
					if f.asJSON {
						if err := json.NewEncoder(cmd.OutOrStdout()).Encode(v); err != nil {
							return err
						}
						continue
					}
					open := "-"
					if v.Since != nil {
						open = time.Since(*v.Since).Round(time.Second).String()
					}
					rows = append(rows, []string{v.ID, v.State, strconv.FormatInt(v.Producer, 10), open, v.Timeout, assignment(v.Partitions)})
				}
				switch {
				case f.asJSON:
				case len(rows) == 0:
					fmt.Fprintln(cmd.OutOrStdout(), "no open transactions")
				default:
					return table(cmd.OutOrStdout(), "ID STATE PRODUCER OPEN TIMEOUT PARTITIONS", rows)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	f.addJSON(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every transactional id, not only open transactions")
	return cmd
}

func newTransactionAbort() *cobra.Command {
	var f kafkaFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "abort ID", Short: "Abort a transaction, and fence its producer", Args: cobra.ExactArgs(1),
		Long: `Aborts the ongoing transaction of a transactional id, so that readers of committed
records go on. Its producer, if it still lives, gets PRODUCER_FENCED and must start
again. Without --yes it says what would be aborted and does nothing.`,
		Example: "  weir transaction abort orders-copy --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := f.connect(cmd.Context())
			if err != nil {
				return interrupted(err)
			}
			defer cl.Close()
			views, err := viewTransactions(cmd.Context(), kadm.NewClient(cl), args[0])
			if err != nil {
				return interrupted(err)
			}
			v, out := &views[0], cmd.OutOrStdout()
			if !v.ongoing() {
				fmt.Fprintf(out, "%s has no ongoing transaction: its state is %s\n", printable(v.ID), v.State)
				return nil
			}
			about := fmt.Sprintf("the transaction of %s, open for %v, with %s", printable(v.ID), time.Since(*v.Since).Round(time.Second), assignment(v.Partitions))
			if !yes {
				fmt.Fprintf(out, "would abort %s; nothing was changed: give --yes\n", about)
				return nil
			}
			// A new producer with the id is what aborts and fences.
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.TransactionTimeoutMillis = &v.ID, 60_000
			resp, err := req.RequestWith(cmd.Context(), cl)
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			if err != nil {
				return interrupted(fmt.Errorf("transactional id %s: %w", v.ID, explain(err, "")))
			}
			fmt.Fprintf(out, "aborted %s\n", about)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}
