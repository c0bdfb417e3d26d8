package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/log/vfs"
)

const keyedConfig = `
rules: rules
engine: {checkpoint_every: 100ms}
streams:
  payments: {as: tx, time: ts, key: card, partitions: 2, fields: {ts: timestamp, card: string, shop: string}}
`

const keyedRule = "---\nid: shop\nstream: payments\nwhen: last(\"1h\").by(tx.shop).count() >= 2\n"

// bought is a payment at a shop.
func bought(card string, second int, shop string) string {
	return fmt.Sprintf(`%s {"ts":"2026-01-01T00:00:%02dZ","card":"%s","shop":"%s"}`, card, second, card, shop)
}

func startKeyed(t *testing.T, dir string) (*Node, func()) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "weir.yaml"), []byte(keyedConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	return startIn(t, dir)
}

// keyedNow are the keyed streams by their states.
func keyedNow(t *testing.T, n *Node) map[string]string {
	t.Helper()
	var all []KeyedView
	get(t, n, "/v1/keyed", 200, &all)
	out := map[string]string{}
	for _, v := range all {
		out[v.Topic] = v.State
	}
	return out
}

// theKeyed is the one keyed stream, once its shards run.
func theKeyed(t *testing.T, n *Node) (topic string) {
	t.Helper()
	eventually(t, "a keyed stream runs", func() bool {
		for _, k := range n.engine.KeyedStatus() {
			topic = k.Topic
		}
		return topic != ""
	})
	return topic
}

// TestKeyedForgotten has a rule with a keyed stream come and go: the stream stays while
// the catalogue or a checkpoint may need it, goes then with its checkpoints, and is made
// again for the rule that comes back, which decides as if it had never gone.
func TestKeyedForgotten(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	plain := "id: any\nstream: payments\nwhen: tx.card == \"none\"\n"
	writeRules(t, dir, plain+keyedRule)
	n, _ := startKeyed(t, dir)
	topic := theKeyed(t, n)
	if !strings.HasPrefix(topic, engine.TopicKeyed+"shop-") {
		t.Fatalf("the keyed stream is %s", topic)
	}
	fired := func(want int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d alerts", want), func() bool { return decidedOnce(t, n) == want })
	}
	produce(t, n, bought("a", 1, "x"), bought("b", 2, "x"))
	fired(1)
	var all []KeyedView
	get(t, n, "/v1/keyed", 200, &all)
	if len(all) != 2 || all[0].Rules[0] != "shop" || all[0].Key[0] != "payments.shop" || all[0].Sources[0] != "payments" || all[0].Trouble != "" || all[0].Rows+all[1].Rows != 2 {
		t.Errorf("keyed streams: %+v", all)
	}
	if text := ask(t, n, "DELETE", "/v1/keyed/"+topic, "", "", 409, nil); !strings.Contains(text, "the rules shop read") {
		t.Error(text)
	}
	ask(t, n, "DELETE", "/v1/keyed/payments", "", "", 404, nil)

	writeRules(t, dir, plain)
	ask(t, n, "POST", "/-/reload", "", "", 200, nil)
	if got := keyedNow(t, n)[topic]; got != "kept" {
		t.Errorf("the keyed stream that no rule needs is %q", got)
	}
	eventually(t, "metrics tell no more of shards that have ended", func() bool {
		return !strings.Contains(ask(t, n, "GET", "/metrics", "", "", 200, nil), "weir_engine_keyed_lag_records{")
	})
	if metric(t, n, "weir_keyed_kept_bytes") == "0" {
		t.Error("weir_keyed_kept_bytes is 0")
	}
	later := time.Now().Add(29 * 24 * time.Hour)
	n.tidyOnce(later)
	if got := keyedNow(t, n)[topic]; got != "kept" {
		t.Errorf("within the time of its program the keyed stream is %q", got)
	}
	// Two checkpoints of the new program, and none names where the stream ended.
	end := time.Now().Add(time.Minute)
	for second := 3; n.keyedInUse(topic); second = min(second+1, 50) {
		produce(t, n, bought("a", second, "y"), bought("b", second, "y"), bought("c", second, "y"), bought("d", second, "y"))
		time.Sleep(150 * time.Millisecond) // checkpoint_every
		if time.Now().After(end) {
			t.Fatal("the keyed stream stays pinned")
		}
	}
	n.tidyOnce(later.Add(2 * 24 * time.Hour))
	if got := keyedNow(t, n); len(got) != 0 {
		t.Errorf("keyed streams that nobody needs: %v", got)
	}
	left, err := filepath.Glob(filepath.Join(dir, "data", checkpointDir, engine.TopicKeyed+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("checkpoints of keyed streams that nobody needs: %v, %v", left, err)
	}
	if len(n.programs.ended()) != 0 {
		t.Errorf("programs whose time is over: %v", n.programs.ended())
	}

	writeRules(t, dir, plain+keyedRule)
	ask(t, n, "POST", "/-/reload", "", "", 200, nil)
	eventually(t, "the rule is in force", func() bool {
		for _, r := range n.ruleViews() {
			if r.State != "active" {
				return false
			}
		}
		return true
	})
	produce(t, n, bought("c", 55, "x"), bought("d", 56, "z"))
	fired(2) // x has had two before
	if got := keyedNow(t, n)[topic]; got != "active" {
		t.Errorf("the keyed stream that a rule needs again is %q", got)
	}
}

// TestWarmingFails: why a rule's windows cannot be made is told until they are.
func TestWarmingFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	plain := "id: any\nstream: payments\nwhen: tx.card == \"none\"\n"
	writeRules(t, dir, plain)
	n, _ := startKeyed(t, dir)
	produce(t, n, bought("a", 1, "x"))
	if err := os.WriteFile(filepath.Join(n.cfg.DataDir, keyedFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeRules(t, dir, plain+keyedRule)
	ask(t, n, "POST", "/-/reload", "", "", 200, nil)
	shop := func(state, trouble string) func() bool {
		return func() bool {
			var all []RuleView
			get(t, n, "/v1/rules", 200, &all)
			return all[0].State == "active" && all[0].Trouble == "" && all[1].State == state && strings.Contains(all[1].Trouble, trouble) && (trouble != "" || all[1].Trouble == "")
		}
	}
	eventually(t, "the rule is warming, and says why", shop("warming", keyedFile+": unexpected end"))
	if text := ask(t, n, "GET", "/-/healthy", "", "", 200, nil); !strings.Contains(text, "but stream payments, partition 1: windows of new rules could not be made, which is tried again: ") {
		t.Error(text)
	}
	writeRules(t, dir, plain+strings.Replace(keyedRule, ">= 2", ">= 3", 1))
	var v ReloadView
	ask(t, n, "POST", "/v1/reload", "", "", 200, &v)
	if got := changes(&v); got != "any unchanged, shop changed warming" {
		t.Errorf("changed while it waits: %s", got)
	}
	if ask(t, n, "POST", "/v1/reload", "", "", 200, &v); changes(&v) != "any unchanged, shop unchanged warming" || !strings.Contains(v.String(), "unchanged  shop: its windows are made from the log first") {
		t.Errorf("reloaded while it waits: %s", v.String())
	}
	if err := os.Remove(filepath.Join(n.cfg.DataDir, keyedFile)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rule is active", shop("active", ""))
	if text := ask(t, n, "GET", "/-/healthy", "", "", 200, nil); strings.Contains(text, "but") {
		t.Error(text)
	}
}

// TestKeyedPartitionsChanged: a keyed stream with other partitions than it was made with is
// named, nothing is decided wrongly, and a person can have it made again.
func TestKeyedPartitionsChanged(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o750); err != nil {
		t.Fatal(err)
	}
	writeRules(t, dir, keyedRule)
	n, stop := startKeyed(t, dir)
	produce(t, n, bought("a", 1, "x"), bought("b", 2, "x"), bought("c", 3, "y"))
	eventually(t, "an alert", func() bool { return decidedOnce(t, n) == 1 })
	topic := theKeyed(t, n)
	data := n.cfg.DataDir
	stop()
	made, err := loadKeyed(vfs.OS, data)
	if err != nil || made[topic].Partitions != 2 {
		t.Fatalf("%v, %v", made, err)
	}
	one := made[topic]
	one.Partitions = 3 // as if two were left of three
	made[topic] = one
	if err := saveKeyed(vfs.OS, data, made); err != nil {
		t.Fatal(err)
	}
	n, _ = startIn(t, dir)
	produce(t, n, bought("d", 4, "y"))
	healthy := func() string { return ask(t, n, "GET", "/-/healthy", "", "", 200, nil) }
	eventually(t, "the topic is named", func() bool {
		text := healthy()
		return strings.Contains(text, topic+": it has 2 partitions and was made with 3") && strings.Contains(text, "DELETE /v1/keyed/"+topic)
	})
	var all []RuleView
	get(t, n, "/v1/rules", 200, &all)
	if all[0].State != "failing" || !strings.Contains(all[0].Trouble, "was made with 3") {
		t.Errorf("%+v", all[0])
	}
	ask(t, n, "DELETE", "/v1/keyed/"+topic, "", "", 204, nil)
	eventually(t, "the event is decided", func() bool { return decidedOnce(t, n) == 2 })
	if text := healthy(); strings.Contains(text, "was made with") {
		t.Error(text)
	}
}
