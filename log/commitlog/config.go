package commitlog

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/log/record"
)

// ConfigType is the type of a topic config, with Kafka's numbers.
type ConfigType int8

// The types of Kafka's DescribeConfigs that topics use.
const (
	ConfigBool   ConfigType = 1
	ConfigString ConfigType = 2
	ConfigInt    ConfigType = 3
	ConfigLong   ConfigType = 5
	ConfigDouble ConfigType = 6
	ConfigList   ConfigType = 7
)

// ConfigDef describes one topic config.
type ConfigDef struct {
	Name     string
	Type     ConfigType
	Default  string
	Doc      string
	min, max float64  // of numbers
	values   []string // of strings and lists; nil: any
}

const (
	minLong = math.MinInt64
	maxLong = math.MaxInt64
	maxInt  = math.MaxInt32
)

// configDefs are the topic configs of Kafka 4, sorted by name. All are checked
// and kept; each says whether it has an effect here.
var configDefs = []ConfigDef{
	{Name: "cleanup.policy", Type: ConfigList, Default: "delete", values: []string{"delete", "compact"}, Doc: "What becomes of old segments: delete, compact (of records with the same key the last one stays) or both. With compact, records without a key are refused."},
	{Name: "compression.type", Type: ConfigString, Default: "producer", values: []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}, Doc: "How batches are compressed: producer leaves them as they come, any other recompresses those that differ. Has an effect."},
	{Name: "delete.retention.ms", Type: ConfigLong, Default: "86400000", max: maxLong, Doc: "How long compaction keeps tombstones and transaction markers, from when it first could drop them. Has an effect with policy compact."},
	{Name: "file.delete.delay.ms", Type: ConfigLong, Default: "60000", max: maxLong, Doc: "Accepted, without effect: files are removed at once."},
	{Name: "flush.messages", Type: ConfigLong, Default: "9223372036854775807", min: 1, max: maxLong, Doc: "Accepted, without effect: every batch is flushed before its ack."},
	{Name: "flush.ms", Type: ConfigLong, Default: "9223372036854775807", max: maxLong, Doc: "Accepted, without effect: every batch is flushed before its ack."},
	{Name: "index.interval.bytes", Type: ConfigInt, Default: "4096", max: maxInt, Doc: "Accepted, without effect: the interval is 4096."},
	{Name: "max.compaction.lag.ms", Type: ConfigLong, Default: "9223372036854775807", min: 1, max: maxLong, Doc: "The age of the oldest record not compacted from which compaction starts whatever the ratio; also closes segments as segment.ms does. Has an effect with policy compact."},
	{Name: "max.message.bytes", Type: ConfigInt, Default: "", max: maxInt, Doc: "The largest record batch, in bytes, as sent. Has an effect."},
	{Name: "message.downconversion.enable", Type: ConfigBool, Default: "true", Doc: "Accepted, without effect: old formats are neither stored nor sent."},
	{Name: "message.timestamp.after.max.ms", Type: ConfigLong, Default: "9223372036854775807", max: maxLong, Doc: "How far a record's time may be ahead of the clock here; a batch with one beyond that is refused. Has an effect with CreateTime."},
	{Name: "message.timestamp.before.max.ms", Type: ConfigLong, Default: "9223372036854775807", max: maxLong, Doc: "How far a record's time may be behind the clock here; a batch with one beyond that is refused. Has an effect with CreateTime."},
	{Name: "message.timestamp.type", Type: ConfigString, Default: "CreateTime", values: []string{"CreateTime", "LogAppendTime"}, Doc: "Whose clock gives records their time. Has an effect."},
	{Name: "min.cleanable.dirty.ratio", Type: ConfigDouble, Default: "0.5", max: 1, Doc: "The share of bytes not compacted yet from which compaction starts. Has an effect with policy compact."},
	{Name: "min.compaction.lag.ms", Type: ConfigLong, Default: "0", max: maxLong, Doc: "How long a record stays uncompacted. Has an effect with policy compact."},
	{Name: "min.insync.replicas", Type: ConfigInt, Default: "1", min: 1, max: maxInt, Doc: "Replicas that must have a batch before acks=all is answered. There is one: with more, acks=all is refused. Has an effect."},
	{Name: "preallocate", Type: ConfigBool, Default: "false", Doc: "Accepted, without effect: space for a segment is taken ahead, in part, where writes are large."},
	{Name: "retention.bytes", Type: ConfigLong, Default: "-1", min: -1, max: maxLong, Doc: "The size from which a partition loses its oldest segments; -1: none. Has an effect with policy delete."},
	{Name: "retention.ms", Type: ConfigLong, Default: "-1", min: -1, max: maxLong, Doc: "The age from which a segment is deleted, by its newest record; -1: never. Has an effect with policy delete."},
	{Name: "segment.bytes", Type: ConfigInt, Default: "", min: 1024, max: maxInt, Doc: "The size of a segment file. Has an effect."},
	{Name: "segment.index.bytes", Type: ConfigInt, Default: "10485760", min: 4, max: maxInt, Doc: "Accepted, without effect: indexes grow as needed."},
	{Name: "segment.jitter.ms", Type: ConfigLong, Default: "0", max: maxLong, Doc: "Accepted, without effect: segments are closed when they are due."},
	{Name: "segment.ms", Type: ConfigLong, Default: "604800000", min: 1, max: maxLong, Doc: "The age from which a segment is closed, at the next append. Has an effect."},
	{Name: "unclean.leader.election.enable", Type: ConfigBool, Default: "false", Doc: "Accepted, without effect: there is one replica."},
}

// ConfigDefs are all topic configs that are known, with this log's defaults,
// sorted by name.
func (l *Log) ConfigDefs() []ConfigDef {
	defs := slices.Clone(configDefs)
	for i := range defs {
		switch defs[i].Name {
		case "max.message.bytes":
			defs[i].Default = strconv.Itoa(l.o.MaxBatchBytes)
		case "retention.ms":
			defs[i].Default = strconv.FormatInt(l.o.retentionMillis(), 10)
		case "segment.bytes":
			defs[i].Default = strconv.FormatInt(l.o.SegmentBytes, 10)
		}
	}
	return defs
}

// retentionMillis is retention.ms of a topic that does not say.
func (o *Options) retentionMillis() int64 {
	if o.Retention <= 0 {
		return -1
	}
	return o.Retention.Milliseconds()
}

// check returns an error that says what was expected.
func (d *ConfigDef) check(value string) error {
	bad := func(expected string) error {
		return fmt.Errorf("%w: %s=%q, expected %s", ErrInvalidConfig, d.Name, value, expected)
	}
	switch d.Type {
	case ConfigBool:
		if value != "true" && value != "false" {
			return bad("true or false")
		}
	case ConfigInt, ConfigLong:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || float64(n) < d.min || float64(n) > d.max {
			return bad(fmt.Sprintf("a whole number of at least %.0f", d.min))
		}
	case ConfigDouble:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= d.min && n <= d.max) {
			return bad(fmt.Sprintf("a number from %g to %g", d.min, d.max))
		}
	case ConfigString:
		if d.values != nil && !slices.Contains(d.values, value) {
			return bad("one of " + strings.Join(d.values, ", "))
		}
	case ConfigList:
		for one := range strings.SplitSeq(value, ",") {
			if !slices.Contains(d.values, strings.TrimSpace(one)) {
				return bad("a list of " + strings.Join(d.values, ", "))
			}
		}
	}
	return nil
}

// CheckConfigs verifies topic configs by name and value. The error wraps
// ErrInvalidConfig and names the first that is wrong, in order of name.
func CheckConfigs(configs map[string]string) error {
	names := make([]string, 0, len(configs))
	for name := range configs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		i, ok := slices.BinarySearchFunc(configDefs, name, func(d ConfigDef, name string) int { return strings.Compare(d.Name, name) })
		if !ok {
			return fmt.Errorf("%w: no config is named %q", ErrInvalidConfig, name)
		}
		if err := configDefs[i].check(configs[name]); err != nil {
			return err
		}
	}
	lag, _ := strconv.ParseInt(configs["min.compaction.lag.ms"], 10, 64)
	if most, err := strconv.ParseInt(configs["max.compaction.lag.ms"], 10, 64); err == nil && lag > most {
		return fmt.Errorf("%w: min.compaction.lag.ms=%d is more than max.compaction.lag.ms=%d", ErrInvalidConfig, lag, most)
	}
	return nil
}

// topicConfig is what the log needs of a topic's configs.
type topicConfig struct {
	maxBatch       int
	segmentBytes   int64
	segmentAge     time.Duration
	retentionBytes int64         // -1: none
	retentionAge   time.Duration // -1: none
	logAppendTime  bool
	delete         bool         // cleanup.policy has delete
	recompress     bool         // to codec
	codec          record.Codec // of compression.type
	minInsync      int
	before, after  time.Duration // how far records may be off; the largest: any

	compact         bool // cleanup.policy has compact
	minDirty        float64
	minLag          time.Duration
	maxLag          time.Duration // the largest: none
	deleteRetention time.Duration
}

// parseConfig reads configs that CheckConfigs accepted.
func (l *Log) parseConfig(configs map[string]string) *topicConfig {
	get := func(name string, def int64) int64 {
		if n, err := strconv.ParseInt(configs[name], 10, 64); err == nil {
			return n
		}
		return def
	}
	age := func(name string, def int64) time.Duration {
		ms := get(name, def)
		if ms < 0 {
			return -1
		}
		return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	}
	policy, ok := configs["cleanup.policy"]
	c := &topicConfig{
		maxBatch:        int(get("max.message.bytes", int64(l.o.MaxBatchBytes))),
		segmentBytes:    get("segment.bytes", l.o.SegmentBytes),
		segmentAge:      age("segment.ms", 7*24*3600*1000),
		retentionBytes:  get("retention.bytes", -1),
		retentionAge:    age("retention.ms", l.o.retentionMillis()),
		logAppendTime:   configs["message.timestamp.type"] == "LogAppendTime",
		delete:          !ok || strings.Contains(policy, "delete"),
		compact:         strings.Contains(policy, "compact"),
		minDirty:        0.5,
		minInsync:       int(get("min.insync.replicas", 1)),
		before:          age("message.timestamp.before.max.ms", math.MaxInt64),
		after:           age("message.timestamp.after.max.ms", math.MaxInt64),
		minLag:          age("min.compaction.lag.ms", 0),
		maxLag:          math.MaxInt64,
		deleteRetention: age("delete.retention.ms", 24*3600*1000),
	}
	if n, err := strconv.ParseFloat(configs["min.cleanable.dirty.ratio"], 64); err == nil {
		c.minDirty = n
	}
	if _, set := configs["max.compaction.lag.ms"]; set {
		c.maxLag = age("max.compaction.lag.ms", 0)
	}
	if kind := configs["compression.type"]; kind != "" && kind != "producer" {
		c.recompress = true
		if kind != "uncompressed" {
			c.codec, _ = record.ParseCodec(kind) // CheckConfigs knows the same
		}
	}
	if c.compact {
		c.segmentAge = min(c.segmentAge, c.maxLag)
	}
	return c
}
