package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
)

type produceFlags struct {
	kafkaFlags
	separator, key, acks, compression string
	headers                           []string
	partition                         int32
	asRecords, quiet, create          bool
}

func newProduce() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC [FILE...]", Short: "Write lines of files or of standard input to a topic", Args: cobra.MinimumNArgs(1),
		Long: `Writes each line as a record's value. With --key-separator a line is KEY SEPARATOR
VALUE. With --json each line is an object as weir consume --json prints it:

  {"key": "k", "value": "v", "headers": [{"key": "h", "value": "x"}], "timestamp": "2026-01-31T12:00:00Z"}

All members but value are optional; a value of null is a tombstone, a value that is
itself an object is written as its text; key_base64 and value_base64 are for bytes
that are no text; topic, partition and offset are ignored.

It ends when the broker has acknowledged everything; the first record that fails
ends it, too, and is named by its file and line. To load CSV or NDJSON into a
declared stream, weir load says more about bad lines.`,
		Example: `  echo '{"card":"c1","amount":1.50}' | weir produce payments
  weir produce scores --key-separator : --compression zstd scores.txt
  weir consume payments --json --until-end | weir produce payments-copy --json --create`,
		RunE: func(cmd *cobra.Command, args []string) error { return runProduce(cmd, args[0], args[1:], &f) },
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.separator, "key-separator", "", "each line is KEY `SEPARATOR` VALUE")
	cmd.Flags().StringVar(&f.key, "key", "", "the `KEY` of every record")
	cmd.Flags().StringArrayVar(&f.headers, "header", nil, "a `NAME=VALUE` header of every record; may be given again")
	cmd.Flags().Int32Var(&f.partition, "partition", -1, "write to partition `N`; -1: by key as Kafka's clients do, or in turn")
	cmd.Flags().StringVar(&f.acks, "acks", "all", "wait for `all`, 1 or 0 acknowledgements")
	cmd.Flags().StringVar(&f.compression, "compression", "none", "`CODEC`: none, gzip, snappy, lz4 or zstd")
	cmd.Flags().BoolVar(&f.asRecords, "json", false, "each line is a record as JSON")
	cmd.Flags().BoolVar(&f.create, "create", false, "make the topic if there is none")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "no progress and no summary")
	return cmd
}

// producerOptions are the flags as options of the client.
func (f *produceFlags) producerOptions() ([]kgo.Opt, error) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	codec, ok := codecs[f.compression]
	if !ok {
		return nil, mistake{fmt.Errorf("--compression %q: expected none, gzip, snappy, lz4 or zstd", f.compression)}
	}
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5 * time.Millisecond), kgo.RecordRetries(deliveryRetries), kgo.ProducerBatchMaxBytes(maxLine)}
	switch f.acks {
	case "all", "-1":
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, mistake{fmt.Errorf("--acks %q: expected all, 1 or 0", f.acks)}
	}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if f.create {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts, nil
}

// deliveryRetries is how often a record is sent again, which takes about half a
// minute. A time-out would count from the record's own timestamp.
const deliveryRetries = 15

// maxLine is the longest line, and the largest batch that is sent.
const maxLine = 16 << 20

func runProduce(cmd *cobra.Command, topic string, files []string, f *produceFlags) error {
	if f.asRecords && (f.separator != "" || f.key != "") {
		return mistake{errors.New("with --json the key is in each line: leave --key-separator and --key away")}
	}
	headers, err := parseHeaders(f.headers)
	if err != nil {
		return err
	}
	opts, err := f.producerOptions()
	if err != nil {
		return err
	}
	for _, name := range files {
		if _, err := os.Stat(name); name != "-" && err != nil {
			return mistake{err}
		}
	}
	cl, err := f.connect(cmd.Context(), opts...)
	if err != nil {
		return interrupted(err)
	}
	defer cl.Close()
	if err := f.checkTopic(cmd.Context(), kadm.NewClient(cl), topic); err != nil {
		return interrupted(err)
	}
	p := &producer{cl: cl, topic: topic, f: f, headers: headers, begun: time.Now()}
	return p.run(cmd, files)
}

func (f *produceFlags) checkTopic(ctx context.Context, adm *kadm.Client, topic string) error {
	found, err := topicsOf(ctx, adm, topic)
	if err != nil {
		if f.create {
			return nil
		}
		return err
	}
	if f.partition >= 0 {
		_, err = partitionsOf(found[topic], []int32{f.partition})
	}
	return err
}

func parseHeaders(list []string) ([]kgo.RecordHeader, error) {
	var headers []kgo.RecordHeader
	for _, one := range list {
		name, value, ok := strings.Cut(one, "=")
		if !ok {
			return nil, mistake{fmt.Errorf("--header %q: expected NAME=VALUE", one)}
		}
		headers = append(headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	return headers, nil
}

// producer writes lines as records.
type producer struct {
	cl      *kgo.Client
	topic   string
	f       *produceFlags
	headers []kgo.RecordHeader
	begun   time.Time

	acked atomic.Int64
	mu    sync.Mutex
	first error // the first that failed
}

func (p *producer) run(cmd *cobra.Command, files []string) error {
	// The first failure ends the reading; what is under way is waited for.
	ctx, fail := context.WithCancel(cmd.Context())
	defer fail()
	err := p.readAll(ctx, fail, cmd, files)
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	flushed := p.cl.Flush(flush)
	p.mu.Lock()
	first := p.first
	p.mu.Unlock()
	took := time.Since(p.begun)
	switch {
	case first != nil:
		return fmt.Errorf("%w\n%s written before", first, things(p.acked.Load(), "record"))
	case cmd.Context().Err() != nil:
		return fmt.Errorf("stopped; %s written", things(p.acked.Load(), "record"))
	case err != nil:
		return fmt.Errorf("%w\n%s written before", err, things(p.acked.Load(), "record"))
	case flushed != nil:
		return fmt.Errorf("%s records were written; the others were not acknowledged in %s: %w", count(p.acked.Load()), flushTimeout, flushed)
	}
	if !p.f.quiet {
		speed := ""
		if took >= time.Second { // less says more about the connection
			speed = fmt.Sprintf(" (%s records/s)", count(rate(p.acked.Load(), took)))
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s written in %s%s\n", p.topic, things(p.acked.Load(), "record"), took.Round(time.Millisecond), speed)
	}
	return nil
}

// flushTimeout is how long the end waits for acknowledgements.
const flushTimeout = 30 * time.Second

func (p *producer) readAll(ctx context.Context, fail func(), cmd *cobra.Command, files []string) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		in, place := cmd.InOrStdin(), "standard input"
		var total int64
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
				total = info.Size()
			}
			in, place = file, name
		} else if isTerminal(in) && !p.f.quiet {
			fmt.Fprintln(cmd.ErrOrStderr(), "weir: each line is a record; ctrl-D ends")
		}
		meter := newMeter(cmd.ErrOrStderr(), place, p.f.quiet || isTerminal(in))
		err := p.readLines(ctx, fail, in, place, func(read int64) {
			meter.show(loader.Progress{Reached: event.MinTime, Accepted: p.acked.Load(), BytesRead: read, BytesTotal: total, Elapsed: time.Since(p.begun)})
		})
		meter.end()
		if err != nil {
			return err
		}
	}
	return nil
}

// line is one line, or why there is no more.
type line struct {
	text []byte
	err  error
}

// lines reads from in beside the caller, since a read of a terminal or a pipe
// cannot be called off. The reader ends with the process where ctx is done first.
func lines(ctx context.Context, in io.Reader) <-chan line {
	out := make(chan line, 1024)
	go func() {
		defer close(out)
		s := bufio.NewScanner(in)
		s.Buffer(make([]byte, 64<<10), maxLine)
		for s.Scan() {
			select {
			case out <- line{text: bytes.Clone(s.Bytes())}:
			case <-ctx.Done():
				return
			}
		}
		if err := s.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				err = fmt.Errorf("longer than %d MiB", maxLine>>20)
			}
			select {
			case out <- line{err: err}:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func (p *producer) readLines(ctx context.Context, fail func(), in io.Reader, place string, progress func(read int64)) error {
	var read int64
	all := lines(ctx, in)
	for number := int64(1); ; number++ {
		var l line
		var more bool
		select {
		case l, more = <-all:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !more {
			return nil
		}
		if l.err != nil {
			return fmt.Errorf("%s:%d: %w", place, number, l.err)
		}
		read += int64(len(l.text)) + 1
		r, err := p.record(l.text)
		if err != nil {
			return mistake{fmt.Errorf("%s:%d: %w", place, number, err)}
		}
		if r == nil {
			continue
		}
		p.cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err == nil {
				p.acked.Add(1)
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.first == nil && !errors.Is(err, context.Canceled) {
				p.first = fmt.Errorf("%s:%d: not written: %w", place, number, explain(err, ""))
				fail()
			}
		})
		if number%256 == 0 {
			progress(read)
		}
	}
}

// record makes a record of a line; nil of an empty line of JSON.
func (p *producer) record(text []byte) (*kgo.Record, error) {
	r := &kgo.Record{Topic: p.topic, Value: text}
	switch {
	case p.f.asRecords:
		if len(bytes.TrimSpace(text)) == 0 {
			return nil, nil
		}
		if err := readRecord(text, r); err != nil {
			return nil, err
		}
	case p.f.separator != "":
		key, value, ok := bytes.Cut(text, []byte(p.f.separator))
		if !ok {
			return nil, fmt.Errorf("there is no key separator %q in the line", p.f.separator)
		}
		r.Key, r.Value = key, value
	case p.f.key != "":
		r.Key = []byte(p.f.key)
	}
	r.Headers = append(r.Headers, p.headers...)
	r.Partition = max(p.f.partition, 0)
	return r, nil
}

// recordView is a record as JSON, both ways.
type recordView struct {
	Topic       string           `json:"topic,omitempty"`
	Partition   int32            `json:"partition"`
	Offset      int64            `json:"offset"`
	Timestamp   string           `json:"timestamp,omitempty"` // RFC 3339, UTC
	Key         json.RawMessage  `json:"key"`                 // null: none
	KeyBase64   *string          `json:"key_base64,omitempty"`
	Value       json.RawMessage  `json:"value"` // null: none, a tombstone
	ValueBase64 *string          `json:"value_base64,omitempty"`
	Headers     []recordedHeader `json:"headers,omitempty"`
	LeaderEpoch int32            `json:"leader_epoch"`
	ProducerID  int64            `json:"producer_id"` // -1: none
}

type recordedHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// readRecord reads a record's JSON into r.
func readRecord(text []byte, r *kgo.Record) error {
	var v recordView
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("expected a record as JSON, see weir produce --help: %w", err)
	}
	if dec.More() {
		return errors.New("expected one JSON object in the line")
	}
	if v.Value == nil && v.ValueBase64 == nil {
		return errors.New(`the record has no "value"; null is a tombstone`)
	}
	var err error
	if r.Key, err = fieldBytes("key", v.Key, v.KeyBase64); err != nil {
		return err
	}
	if r.Value, err = fieldBytes("value", v.Value, v.ValueBase64); err != nil {
		return err
	}
	if v.Timestamp != "" {
		if r.Timestamp, err = time.Parse(time.RFC3339Nano, v.Timestamp); err != nil {
			return fmt.Errorf("timestamp %q: expected one such as 2026-01-31T12:00:00Z", v.Timestamp)
		}
	}
	for _, h := range v.Headers {
		one := kgo.RecordHeader{Key: h.Key}
		switch {
		case h.ValueBase64 != nil:
			if one.Value, err = base64.StdEncoding.DecodeString(*h.ValueBase64); err != nil {
				return fmt.Errorf("header %q: value_base64: %w", h.Key, err)
			}
		case h.Value != nil:
			one.Value = []byte(*h.Value)
		}
		r.Headers = append(r.Headers, one)
	}
	return nil
}

// fieldBytes are the bytes of a key or a value: of its base64, of a string, or the
// text of anything else.
func fieldBytes(name string, raw json.RawMessage, encoded *string) ([]byte, error) {
	if encoded != nil {
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		return b, nil
	}
	switch {
	case raw == nil || bytes.Equal(raw, []byte("null")):
		return nil, nil
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return []byte(s), nil
	}
	return slices.Clone(raw), nil
}
