package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/log/group"
)

type transactionMetrics struct {
	outcomes *prometheus.CounterVec
	seconds  prometheus.Histogram
	timedOut prometheus.Counter
	hanging  prometheus.Counter
	retries  prometheus.Counter
}

func newTransactionMetrics() *transactionMetrics {
	return &transactionMetrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_broker_transactions_total",
			Help: "Completed transactions, by outcome: commit or abort."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weir_broker_transaction_completion_seconds",
			Help:    "Time from the decision on a transaction to the last of its markers.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160}),
		timedOut: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_transactions_timed_out_total",
			Help: "Transactions aborted because they ran into their timeout."}),
		hanging: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_transactions_hanging_total",
			Help: "Open transactions found at start that nobody could end, and aborted."}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_broker_transaction_retries_total",
			Help: "Markers and states of transactions that the disk refused and that are tried again."}),
	}
}

func (m *transactionMetrics) ended(commit bool, took time.Duration) {
	outcome := "abort"
	if commit {
		outcome = "commit"
	}
	m.outcomes.WithLabelValues(outcome).Inc()
	m.seconds.Observe(took.Seconds())
}

// register makes the metrics of x known to r, those of its present state as well.
func (m *transactionMetrics) register(r prometheus.Registerer, x *transactions) error {
	if r == nil {
		return nil
	}
	ids := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_broker_transactional_ids",
		Help: "Transactional ids that are kept."}, func() float64 {
		x.mu.RLock()
		defer x.mu.RUnlock()
		return float64(len(x.byID))
	})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_broker_transactions_open",
		Help: "Transactions that are ongoing or being completed."}, func() float64 {
		n, _ := x.oldest(time.Now())
		return float64(n)
	})
	oldest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_broker_transaction_oldest_seconds",
		Help: "Age of the oldest transaction that is not completed, which readers of committed records wait for; 0 without one."}, func() float64 {
		_, age := x.oldest(time.Now())
		return age.Seconds()
	})
	for _, c := range []prometheus.Collector{m.outcomes, m.seconds, m.timedOut, m.hanging, m.retries, ids, open, oldest} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// oldest counts the transactions that are not completed, and says how old the
// oldest is.
func (x *transactions) oldest(now time.Time) (n int, age time.Duration) {
	for _, t := range x.all() {
		if t.State == group.TxnOngoing || t.Preparing() {
			n++
			age = max(age, now.Sub(t.Started))
		}
	}
	return n, age
}
