package broker

import (
	"bytes"
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/layout"
)

// api is one API key as this broker serves it.
type api struct {
	key      int16
	name     string // as in Kafka's documentation; the metrics' label
	min, max int16  // advertised versions
	flexible int16  // the first version with compact strings and tagged fields
	// start takes a request whose header is read. It runs on the connection's
	// reader, in order of arrival, and must not keep body. An error closes the
	// connection; a nil answer means that the request gets none.
	start func(c *conn, h header, body []byte) (answer, error)
	// stream stands in for start where a request is read while it is taken.
	stream func(c *conn, h header, w *window) (answer, error)
}

// answer is a request that has been started. finish runs on the connection's
// writer after all earlier answers were written; it appends the response's body
// to f. An error closes the connection. written is called when the response has
// left, or never will.
type answer interface {
	finish(ctx context.Context, f *frame) error
	written()
}

// keyTable is what the broker serves. Versions end where Kafka 4.4 ends or where
// kmsg does. librdkafka sends lz4 batches uncompressed until FindCoordinator is
// here: it takes that key for a sign that the broker knows lz4.
func keyTable() map[int16]*api {
	list := []*api{
		{key: 0, name: "Produce", min: 0, max: 13, flexible: 9, stream: startProduce},
		{key: 1, name: "Fetch", min: 4, max: 18, flexible: 12, start: startFetch},
		{key: 2, name: "ListOffsets", min: 1, max: 11, flexible: 6, start: reads(listOffsets)},
		{key: 3, name: "Metadata", min: 0, max: 13, flexible: 9, start: decides(startMetadata)},
		{key: 8, name: "OffsetCommit", min: 2, max: 10, flexible: 8, start: reads(offsetCommit)},
		{key: 9, name: "OffsetFetch", min: 1, max: 10, flexible: 6, start: reads(offsetFetch)},
		{key: 10, name: "FindCoordinator", min: 0, max: 6, flexible: 3, start: reads(findCoordinator)},
		{key: 11, name: "JoinGroup", min: 0, max: 9, flexible: 6, start: keeps(joinGroup)},
		{key: 12, name: "Heartbeat", min: 0, max: 4, flexible: 4, start: reads(heartbeat)},
		{key: 13, name: "LeaveGroup", min: 0, max: 5, flexible: 4, start: reads(leaveGroup)},
		{key: 14, name: "SyncGroup", min: 0, max: 5, flexible: 4, start: keeps(syncGroup)},
		{key: 15, name: "DescribeGroups", min: 0, max: 6, flexible: 5, start: reads(describeGroups)},
		{key: 16, name: "ListGroups", min: 0, max: 5, flexible: 3, start: reads(listGroups)},
		{key: 18, name: "ApiVersions", min: 0, max: 5, flexible: 3, start: changes(apiVersions)},
		{key: 19, name: "CreateTopics", min: 2, max: 7, flexible: 5, start: decides(startCreateTopics)},
		{key: 20, name: "DeleteTopics", min: 1, max: 6, flexible: 4, start: changes(deleteTopics)},
		{key: 21, name: "DeleteRecords", min: 0, max: 2, flexible: 2, start: changes(deleteRecords)},
		{key: 22, name: "InitProducerId", min: 0, max: 5, flexible: 2, start: reads(initProducerID)},
		{key: 23, name: "OffsetForLeaderEpoch", min: 2, max: 4, flexible: 4, start: reads(offsetForLeaderEpoch)},
		{key: 24, name: "AddPartitionsToTxn", min: 0, max: 3, flexible: 3, start: decides(startAddPartitionsToTxn)},
		{key: 25, name: "AddOffsetsToTxn", min: 0, max: 4, flexible: 3, start: decides(startAddOffsetsToTxn)},
		{key: 26, name: "EndTxn", min: 0, max: 5, flexible: 3, start: decides(startEndTxn)},
		{key: 28, name: "TxnOffsetCommit", min: 0, max: 6, flexible: 3, start: reads(txnOffsetCommit)},
		{key: 29, name: "DescribeAcls", min: 1, max: 3, flexible: 2, start: reads(describeACLs)},
		{key: 30, name: "CreateAcls", min: 1, max: 3, flexible: 2, start: changes(createACLs)},
		{key: 31, name: "DeleteAcls", min: 1, max: 3, flexible: 2, start: changes(deleteACLs)},
		{key: 32, name: "DescribeConfigs", min: 1, max: 4, flexible: 4, start: reads(describeConfigs)},
		{key: 33, name: "AlterConfigs", min: 0, max: 2, flexible: 2, start: changes(alterConfigs)},
		{key: 35, name: "DescribeLogDirs", min: 1, max: 5, flexible: 2, start: reads(describeLogDirs)},
		{key: 37, name: "CreatePartitions", min: 0, max: 3, flexible: 2, start: changes(createPartitions)},
		{key: 42, name: "DeleteGroups", min: 0, max: 3, flexible: 2, start: reads(deleteGroups)},
		{key: 44, name: "IncrementalAlterConfigs", min: 0, max: 1, flexible: 1, start: changes(incrementalAlterConfigs)},
		{key: 47, name: "OffsetDelete", min: 0, max: 0, flexible: 1, start: reads(offsetDelete)},
		{key: 60, name: "DescribeCluster", min: 0, max: 2, flexible: 0, start: reads(describeCluster)},
		{key: 61, name: "DescribeProducers", min: 0, max: 0, flexible: 0, start: reads(describeProducers)},
		{key: 65, name: "DescribeTransactions", min: 0, max: 0, flexible: 0, start: reads(describeTransactions)},
		{key: 66, name: "ListTransactions", min: 0, max: 2, flexible: 0, start: reads(listTransactions)},
		{key: 68, name: "ConsumerGroupHeartbeat", min: 0, max: 1, flexible: 0, start: keeps(consumerGroupHeartbeat)},
		{key: 69, name: "ConsumerGroupDescribe", min: 0, max: 1, flexible: 0, start: reads(consumerGroupDescribe)},
	}
	table := make(map[int16]*api, len(list))
	for _, a := range list {
		table[a.key] = a
	}
	return table
}

// request is a kmsg request of type R by pointer.
type request[R any] interface {
	*R
	kmsg.Request
}

// memory is what a request's body takes once decoded, at most about. kmsg is
// generated code over hostile input: it is given only what passes here.
func (a *api) memory(version int16, body []byte) (int64, error) {
	m := layout.Request(a.key)
	if m == nil {
		if version < a.flexible {
			return int64(layout.Rigid(body)), nil
		}
		return 0, fmt.Errorf("%w: no layout", errMalformed)
	}
	n, err := m.Check(version, body)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return int64(n), nil
}

// decode reads a request's body that passed api.memory. A panic in kmsg is this
// connection's error, not the process's.
func decode[R any, P request[R]](version int16, body []byte) (req P, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: decoder panicked: %v", errMalformed, r)
		}
	}()
	req = new(R)
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return req, nil
}

// changes makes an api's start of a function that runs on arrival.
func changes[R any, P request[R]](f func(ctx context.Context, c *conn, req P) kmsg.Response) func(*conn, header, []byte) (answer, error) {
	return func(c *conn, h header, body []byte) (answer, error) {
		req, err := decode[R, P](h.version, body)
		if err != nil {
			return nil, err
		}
		return message{f(c.ctx, c, req)}, nil
	}
}

// reads makes an api's start of a function that runs when all earlier answers
// were written.
func reads[R any, P request[R]](f func(ctx context.Context, c *conn, req P) kmsg.Response) func(*conn, header, []byte) (answer, error) {
	return func(c *conn, h header, body []byte) (answer, error) {
		req, err := decode[R, P](h.version, body)
		if err != nil {
			return nil, err
		}
		return later(func(ctx context.Context) kmsg.Response { return f(ctx, c, req) }), nil
	}
}

// decides makes an api's start of a function that takes effect on arrival and
// returns what waits for that to be durable and answers, or what makes a large
// answer when it is the turn of it.
func decides[R any, P request[R]](f func(ctx context.Context, c *conn, req P) func(context.Context) kmsg.Response) func(*conn, header, []byte) (answer, error) {
	return func(c *conn, h header, body []byte) (answer, error) {
		req, err := decode[R, P](h.version, body)
		if err != nil {
			return nil, err
		}
		finish := f(c.ctx, c, req)
		return later(func(context.Context) kmsg.Response { return finish(c.hard) }), nil
	}
}

// keeps is reads for a function that keeps bytes of its request or wants to know
// who the client says it is.
func keeps[R any, P request[R]](f func(ctx context.Context, c *conn, h header, req P) kmsg.Response) func(*conn, header, []byte) (answer, error) {
	return func(c *conn, h header, body []byte) (answer, error) {
		req, err := decode[R, P](h.version, bytes.Clone(body)) // byte fields point into the body
		if err != nil {
			return nil, err
		}
		return later(func(ctx context.Context) kmsg.Response { return f(ctx, c, h, req) }), nil
	}
}

// message is an answer that is known already.
type message struct{ resp kmsg.Response }

func (m message) finish(_ context.Context, f *frame) error {
	f.buf = m.resp.AppendTo(f.buf)
	return nil
}

func (m message) written() {}

// later is an answer computed when its turn comes.
type later func(ctx context.Context) kmsg.Response

func (l later) finish(ctx context.Context, f *frame) error {
	f.buf = l(ctx).AppendTo(f.buf)
	return nil
}

func (l later) written() {}

// response is req's response of type R with its version and defaults set.
func response[R kmsg.Response](req kmsg.Request) R {
	return req.ResponseKind().(R)
}
