package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/commitlog"
)

func TestGroupCommands(t *testing.T) {
	l, addr := startBroker(t)
	w := &weir{t, addr}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	w.want(exitDone, []string{"no groups"}, "group", "list")
	w.feed("a\nb\nc\nd\n", exitDone, nil, "produce", "t", "--partition", "0")
	w.feed("e\n", exitDone, nil, "produce", "t", "--partition", "1")
	// A group reads what it has not read before.
	if out := w.want(exitDone, nil, "consume", "t", "--group", "audit", "--count", "5"); len(strings.Fields(out)) != 5 {
		t.Errorf("read %q", out)
	}
	w.feed("f\n", exitDone, nil, "produce", "t", "--partition", "0")
	if out := w.want(exitDone, nil, "consume", "t", "--group", "audit", "--until-end"); out != "f\n" {
		t.Errorf("read %q", out)
	}
	if out := w.want(exitDone, nil, "consume", "t", "--group", "audit", "--until-end"); out != "" {
		t.Errorf("read %q again", out)
	}
	w.feed("g\nh\n", exitDone, nil, "produce", "t", "--partition", "0")
	w.want(exitDone, []string{"GROUP", "audit  Empty  0        1       2"}, "group", "list")
	var v groupView
	if err := json.Unmarshal([]byte(w.want(exitDone, nil, "group", "lag", "audit", "--json")), &v); err != nil || v.Lag != 2 || v.Partitions[0].Offset != 5 || v.Partitions[0].End != 7 {
		t.Errorf("%v %+v", err, v)
	}
	w.want(exitDone, []string{"audit: empty, 0 members, lag 2", "t      0          5       7    2"}, "group", "describe", "audit")
	w.want(exitMistake, []string{`did you mean "audit"?`}, "group", "describe", "audi")

	// Moves are told before they are made.
	w.want(exitDone, []string{"t      0          5    0    -5", "nothing was changed"}, "group", "reset-offsets", "audit", "--to", "earliest")
	w.want(exitDone, []string{"t      0          5    3    -2"}, "group", "reset-offsets", "audit", "--shift", "-2", "--topic", "t", "--partition", "0", "--yes")
	w.want(exitDone, []string{"t      0          3    7    +4", "t      1          1    1    +0"}, "group", "reset-offsets", "audit", "--to", "latest")
	w.want(exitDone, []string{`"now":3,"new":7,"done":true`}, "group", "reset-offsets", "audit", "--to", "99", "--partition", "0", "--topic", "t", "--yes", "--json")
	w.want(exitDone, []string{"t      0          7    0    -7"}, "group", "reset-offsets", "audit", "--to", "1h")
	w.want(exitDone, []string{"t      0          -    0    -"}, "group", "reset-offsets", "fresh", "--topic", "t", "--to", "0", "--yes")
	for _, args := range [][]string{
		{"audit"}, {"audit", "--to", "latest", "--shift", "1"}, {"audit", "--to", "soon"}, {"audit", "--to", "-1"}, {"audit", "--to", "1", "--partition", "0"},
		{"audit", "--to", "1", "--topic", "nosuch"}, {"audit", "--to", "1", "--topic", "t", "--partition", "9"}, {"none", "--to", "1"},
	} {
		w.want(exitMistake, []string{"weir: "}, append([]string{"group", "reset-offsets"}, args...)...)
	}

	// Members are shown, and keep their offsets to themselves.
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ClientID("a-client"), kgo.ConsumerGroup("audit"), kgo.ConsumeTopics("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		_, out, _ := w.run("", "group", "describe", "audit")
		if strings.Contains(out, "audit: stable, 1 member") && strings.Contains(out, "a-client") && strings.Contains(out, "t[0,1]") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(out)
		}
	}
	w.want(exitFailed, []string{"1 member", "stop them first"}, "group", "reset-offsets", "audit", "--to", "earliest", "--yes")
	w.want(exitFailed, []string{"stop them first"}, "group", "delete", "audit", "--yes")
	cl.Close()
	w.want(exitMistake, []string{"audit would be deleted: empty, offsets of 2 partitions", "--yes"}, "group", "delete", "audit")
	w.want(exitDone, []string{"audit deleted"}, "group", "delete", "audit", "--yes")
	w.want(exitMistake, []string{"no group"}, "group", "delete", "audit", "--yes")
}

// TestConsumerGroupCommands: a group whose partitions the broker assigns is shown as
// others are, next to them.
func TestConsumerGroupCommands(t *testing.T) {
	l, addr := startBroker(t)
	w := &weir{t, addr}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	w.feed("a\nb\nc\n", exitDone, nil, "produce", "t", "--partition", "0")
	w.want(exitDone, nil, "consume", "t", "--group", "zz", "--count", "3")
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ClientID("a-client"), kgo.ConsumerGroup("audit"), kgo.ConsumeTopics("t"), kgo.ServerSideBalancer(), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		_, out, _ := w.run("", "group", "describe", "audit")
		if strings.Contains(out, "audit: stable, 1 member, lag 3") && strings.Contains(out, "a-client") && strings.Contains(out, "t[0,1]") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(out)
		}
	}
	w.want(exitDone, []string{"audit  Stable  1        1       3", "zz     Empty   0        1       0"}, "group", "list")
	w.want(exitFailed, []string{"1 member", "stop them first"}, "group", "reset-offsets", "audit", "--to", "earliest", "--yes")
	var polled int
	for polled < 3 {
		polled += cl.PollFetches(t.Context()).NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	w.want(exitDone, []string{"audit: empty, 0 members, lag 0", "t      0          3       3    0"}, "group", "describe", "audit")
}
