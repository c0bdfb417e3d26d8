package anomaly

import (
	"slices"
	"testing"
)

var (
	x = Key{"t", 0}
	y = Key{"t", 1}
)

// hist gives operations their times: each is over before the next begins, where
// it does not say otherwise.
func hist(ops ...Op) History {
	for i := range ops {
		if ops[i].Completed == 0 {
			ops[i].Invoked, ops[i].Completed = int64(i)*10+1, int64(i)*10+2
		}
	}
	return ops
}

func send(k Key, pairs ...int64) Step { return Step{Send: true, Key: k, Records: records(pairs)} }
func poll(k Key, pairs ...int64) Step { return Step{Key: k, Records: records(pairs)} }

func records(pairs []int64) []Record {
	var rs []Record
	for i := 0; i < len(pairs); i += 2 {
		rs = append(rs, Record{Offset: pairs[i], Value: pairs[i+1]})
	}
	return rs
}

func do(process int, o Outcome, steps ...Step) Op {
	return Op{Process: process, Outcome: o, Steps: steps}
}

func during(op Op, from, to int64) Op {
	op.Invoked, op.Completed = from, to
	return op
}

func uncommitted(op Op) Op {
	op.Uncommitted = true
	return op
}

func assign(process int, at map[Key]int64) Op { return Op{Process: process, Outcome: OK, Assign: at} }

func inGroup(op Op) Op {
	op.Group = "g"
	return op
}

func commit(process int, o Outcome, position int64) Op {
	return Op{Process: process, Outcome: o, Group: "g", Committed: map[Key]int64{x: position}}
}

// transform is a transaction that polled one input and sent one output.
func transform(o Outcome, in, out Record, position int64) Op {
	out.Source = in.Value
	return Op{Process: 3, Outcome: o, Committed: map[Key]int64{x: position},
		Steps: []Step{{Key: x, Records: []Record{in}}, {Send: true, Key: y, Records: []Record{out}}}}
}

// TestEachAnomaly has a history for each anomaly, and beside it the nearest one
// that a correct log may show.
func TestEachAnomaly(t *testing.T) {
	none := []string{}
	for _, c := range []struct {
		name string
		want []string
		hist History
	}{
		{"nothing", none, nil},
		{"sent and polled", none, hist(do(1, OK, send(x, 0, 1)), do(2, OK, poll(x, 0, 1)))},

		{"an offset that changes between polls", []string{"inconsistent-offsets"}, hist(
			do(1, Info, send(x, -1, 1)), do(1, Info, send(x, -1, 2)), do(2, OK, poll(x, 0, 1)), do(3, OK, poll(x, 0, 2)))},
		{"an offset acknowledged to two", []string{"inconsistent-offsets"}, hist(
			do(1, OK, send(x, 0, 1)), do(2, OK, send(x, 0, 2)), do(3, OK, poll(x, 0, 1)), do(4, OK, poll(x, 0, 2)))},
		{"the same offset in two partitions", none, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(y, 0, 2)), do(3, OK, poll(x, 0, 1), poll(y, 0, 2)))},

		{"a value twice", []string{"duplicate"}, hist(do(1, OK, send(x, 0, 1)), do(2, OK, poll(x, 0, 1, 1, 1)))},
		{"a value acknowledged here and polled there", []string{"duplicate"}, hist(do(1, OK, send(x, 0, 1)), do(2, OK, poll(x, 1, 1)))},

		{"a committed value skipped by all", []string{"lost-write", "unseen"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(2, OK, poll(x, 1, 2)))},
		{"an uncertain value that is not there", none, hist(
			do(1, Info, send(x, -1, 1)), do(1, OK, send(x, 1, 2)), do(2, OK, poll(x, 1, 2)))},
		{"half of an uncertain transaction", []string{"lost-write", "unseen"}, hist(
			do(1, Info, send(x, 0, 1, 1, 2)), do(2, OK, poll(x, 1, 2)))},
		{"an aborted value that is not there", none, hist(
			do(1, Fail, send(x, 0, 1)), do(1, OK, send(x, 2, 2)), do(2, OK, poll(x, 2, 2)))},
		{"only a reader of uncommitted values saw it", []string{"lost-write", "unseen"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), uncommitted(do(3, OK, poll(x, 0, 1, 1, 2))), do(2, OK, poll(x, 1, 2)))},

		{"the last value never polled", []string{"unseen"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(2, OK, poll(x, 0, 1)))},

		{"a value out of nowhere", []string{"unwritten"}, hist(do(2, OK, poll(x, 0, 1)))},
		{"a value of another partition", []string{"unseen", "unwritten"}, hist(do(1, OK, send(x, 0, 1)), do(2, OK, poll(y, 0, 1)))},

		{"an aborted value", []string{"G1a"}, hist(do(1, Fail, send(x, 0, 1)), do(2, OK, poll(x, 0, 1)))},
		{"an aborted value, polled in an aborted transaction", []string{"G1a"}, hist(do(1, Fail, send(x, 0, 1)), do(2, Fail, poll(x, 0, 1)))},
		{"an uncertain value", none, hist(do(1, Info, send(x, -1, 1)), do(2, OK, poll(x, 0, 1)))},
		{"an aborted value, to a reader of uncommitted ones", none, hist(do(1, Fail, send(x, 0, 1)), uncommitted(do(2, OK, poll(x, 0, 1))))},

		{"its own value", []string{"precommitted-read"}, hist(do(1, OK, send(x, 0, 1), poll(x, 0, 1)))},

		{"each other's values", []string{"G1c"}, hist(
			during(do(1, OK, send(x, 0, 1), poll(y, 0, 2)), 1, 8), during(do(2, OK, send(y, 0, 2), poll(x, 0, 1)), 2, 9))},
		{"one another's value one way", none, hist(
			during(do(1, OK, send(x, 0, 1)), 1, 8), during(do(2, OK, send(y, 0, 2), poll(x, 0, 1)), 2, 9), do(3, OK, poll(y, 0, 2)))},
		{"each other's later values", []string{"G1c-process"}, hist(
			during(do(1, OK, poll(x, 0, 1)), 1, 10), during(do(2, OK, poll(y, 0, 2)), 2, 11),
			during(do(1, OK, send(y, 0, 2)), 12, 14), during(do(2, OK, send(x, 0, 1)), 13, 15))},
		{"a value before it was sent", []string{"G1c-realtime"}, hist(do(2, OK, poll(x, 0, 1)), do(1, OK, send(x, 0, 1)))},
		{"a value before it was acknowledged", none, hist(during(do(2, OK, poll(x, 0, 1)), 2, 3), during(do(1, OK, send(x, 0, 1)), 1, 4))},

		{"a poll after a gap", []string{"poll-skip"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(1, OK, send(x, 2, 3)), do(3, OK, poll(x, 0, 1, 1, 2, 2, 3)),
			do(2, OK, poll(x, 0, 1)), do(2, OK, poll(x, 2, 3)))},
		{"a first poll after the beginning", []string{"poll-skip"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(3, OK, poll(x, 0, 1, 1, 2)),
			assign(2, map[Key]int64{x: 0}), do(2, OK, poll(x, 1, 2)))},
		{"a gap at a marker", none, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 2, 2)), do(2, OK, poll(x, 0, 1)), do(2, OK, poll(x, 2, 2)))},
		{"a gap where a value was aborted", none, hist(
			do(1, OK, send(x, 0, 1)), do(4, Fail, send(x, 1, 9)), do(1, OK, send(x, 3, 2)), do(2, OK, poll(x, 0, 1)), do(2, OK, poll(x, 3, 2)))},
		{"that gap, to a reader of uncommitted values", []string{"poll-skip"}, hist(
			do(1, OK, send(x, 0, 1)), do(4, Fail, send(x, 1, 9)), do(1, OK, send(x, 3, 2)), do(3, OK, poll(x, 0, 1, 3, 2)),
			uncommitted(do(2, OK, poll(x, 0, 1))), uncommitted(do(2, OK, poll(x, 3, 2))))},
		{"a gap at a change of assignment", none, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(1, OK, send(x, 2, 3)), do(3, OK, poll(x, 0, 1, 1, 2, 2, 3)),
			do(2, OK, poll(x, 0, 1)), assign(2, map[Key]int64{x: NoOffset}), do(2, OK, poll(x, 2, 3)))},

		{"polled again", []string{"nonmonotonic-poll"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(2, OK, poll(x, 0, 1, 1, 2)), do(2, OK, poll(x, 1, 2)))},
		{"polled again after an abort", none, hist(
			do(1, OK, send(x, 0, 1)), assign(2, map[Key]int64{x: 0}), do(2, Fail, poll(x, 0, 1)), do(2, OK, poll(x, 0, 1)))},
		{"skipped after an abort", []string{"poll-skip"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), assign(2, map[Key]int64{x: 0}), do(2, Fail, poll(x, 0, 1)), do(2, OK, poll(x, 1, 2)))},

		{"sends that overtake", []string{"nonmonotonic-send"}, hist(
			do(1, OK, send(x, 1, 1)), do(1, OK, send(x, 0, 2)), do(2, OK, poll(x, 0, 2, 1, 1)))},
		{"sends that overtake an uncertain one", none, hist(
			do(1, Info, send(x, -1, 1)), do(1, OK, send(x, 0, 2)), do(2, OK, poll(x, 0, 2, 1, 1)))},
		{"a skip in one poll", []string{"int-poll-skip"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(1, OK, send(x, 2, 3)), do(3, OK, poll(x, 0, 1, 1, 2, 2, 3)), do(2, OK, poll(x, 0, 1, 2, 3)))},
		{"backwards in one poll", []string{"int-nonmonotonic-poll"}, hist(
			do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(2, OK, poll(x, 1, 2, 0, 1)))},
		{"backwards in one transaction", []string{"int-nonmonotonic-send"}, hist(
			do(1, OK, send(x, 1, 1, 0, 2)), do(2, OK, poll(x, 0, 2, 1, 1)))},

		{"a group goes back before its commit", []string{"lost-commit"}, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)),
			inGroup(assign(2, map[Key]int64{x: NoOffset})), inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), commit(2, OK, 2),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 0, 1))))},
		{"a group goes back after an uncertain commit", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)),
			inGroup(assign(2, map[Key]int64{x: NoOffset})), inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), commit(2, Info, 2),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 0, 1))))},
		{"a group goes back to a commit that waited", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), during(commit(2, OK, 2), 41, 46), during(commit(3, OK, 1), 42, 48),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 1, 2))))},
		{"a group goes back to an uncertain commit of the same life", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), commit(3, Info, 1), commit(2, OK, 2),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 1, 2))))},
		{"a group goes back to an uncertain commit of a life before", []string{"lost-commit"}, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), commit(3, Info, 1), Op{Down: true}, commit(2, OK, 2),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 1, 2))))},
		{"a member that was expelled goes on while it does not know", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 0, 1))),
			commit(2, OK, 2), inGroup(assign(3, map[Key]int64{x: 1})), inGroup(do(3, OK, poll(x, 1, 2))))},
		{"a member keeps what it was given before a commit", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), inGroup(assign(3, map[Key]int64{x: NoOffset})), commit(2, OK, 2),
			inGroup(assign(3, map[Key]int64{x: NoOffset})), inGroup(do(3, OK, poll(x, 0, 1))))},
		{"a transaction polls what is given again before it ends", none, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(do(2, OK, poll(x, 0, 1, 1, 2))), commit(2, OK, 2), inGroup(assign(3, map[Key]int64{x: NoOffset})),
			Op{Process: 3, Group: "g", Outcome: Fail, Invoked: 25, Polled: 26, Completed: 70, Steps: []Step{poll(x, 0, 1)}, Committed: map[Key]int64{x: 1}})},
		{"a group commits what it did not poll", []string{"group-skip"}, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			inGroup(assign(2, map[Key]int64{x: NoOffset})), inGroup(do(2, OK, poll(x, 1, 2))), commit(2, OK, 2))},

		{"two outputs", []string{"reprocessed"}, hist(do(1, OK, send(x, 0, 1)),
			transform(OK, Record{Offset: 0, Value: 1}, Record{Offset: 0, Value: 10}, 1),
			assign(3, map[Key]int64{x: 0}),
			transform(OK, Record{Offset: 0, Value: 1}, Record{Offset: 2, Value: 11}, 1),
			do(2, OK, poll(y, 0, 10, 2, 11)))},
		{"two outputs, one aborted", none, hist(do(1, OK, send(x, 0, 1)),
			transform(Fail, Record{Offset: 0, Value: 1}, Record{Offset: 0, Value: 10}, 1),
			transform(OK, Record{Offset: 0, Value: 1}, Record{Offset: 2, Value: 11}, 1),
			do(2, OK, poll(y, 2, 11)))},
		{"an input passed over", []string{"unprocessed"}, hist(do(1, OK, send(x, 0, 1)), do(1, OK, send(x, 1, 2)), do(4, OK, poll(x, 0, 1, 1, 2)),
			transform(OK, Record{Offset: 1, Value: 2}, Record{Offset: 0, Value: 10}, 2), do(2, OK, poll(y, 0, 10)))},
	} {
		if got := Names(Check(c.hist)); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, expected %v: %v", c.name, got, c.want, Check(c.hist))
		}
	}
}

// TestRecorder gives growing, distinct times.
func TestRecorder(t *testing.T) {
	var r Recorder
	a, b := r.Invoke(), r.Invoke()
	r.Complete(Op{Process: 2, Invoked: b})
	r.Complete(Op{Process: 1, Invoked: a})
	h := r.History()
	if len(h) != 2 || h[0].Process != 2 || !(a < b && b < h[0].Completed && h[0].Completed < h[1].Completed) {
		t.Fatal(h)
	}
}
