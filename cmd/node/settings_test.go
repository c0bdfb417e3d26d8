package node

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestLogSettings: what weir.yaml says of the log and of Kafka clients is what clients
// find; what Weir needs for itself is not touched by it.
func TestLogSettings(t *testing.T) {
	n, stop := startConfigured(t, t.TempDir(), `
log: {max_message_bytes: 2KiB, retention: 2h, segment_bytes: 2MiB, scrub_rate: 0, min_free_bytes: 1MiB}
kafka: {partitions: 3, auto_create_topics: false, advertised: "weir.example.com:19092", initial_rebalance_delay: 0s}
streams:
  payments: {as: tx, time: ts, key: card, fields: {ts: timestamp, card: string, amount: decimal(2)}}
`)
	defer stop()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	meta, err := admin.BrokerMetadata(t.Context())
	if err != nil || len(meta.Brokers) != 1 || meta.Brokers[0].Host != "weir.example.com" || meta.Brokers[0].Port != 19092 {
		t.Errorf("brokers %v, %v", meta.Brokers, err)
	}
	log := n.log
	if _, ok := log.Topic("payments"); !ok {
		t.Fatal("no topic payments")
	}
	defaults := map[string]string{"max.message.bytes": "2048", "retention.ms": "7200000", "segment.bytes": "2097152"}
	for _, def := range log.ConfigDefs() {
		if want, ok := defaults[def.Name]; ok && def.Default != want {
			t.Errorf("%s is %s by default, expected %s", def.Name, def.Default, want)
		}
	}
	for _, topic := range log.Topics() {
		if _, set := topic.Configs()["retention.ms"]; !set {
			t.Errorf("topic %s, which Weir made, goes with the retention of others", topic.Name())
		}
	}
	meta, err = admin.Metadata(t.Context(), "made-by-asking")
	if err != nil || !errors.Is(meta.Topics["made-by-asking"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a topic that nobody made: %v, %v", meta.Topics, err)
	}
}
