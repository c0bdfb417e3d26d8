package commitlog

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/log/vfs"
)

// MaxPartitions is the largest number of partitions of a topic.
const MaxPartitions = 10_000

// Options of a Log. The zero value is the default.
type Options struct {
	// FS is the file system; nil: vfs.OS.
	FS vfs.FS
	// SegmentBytes is the size at which a segment is closed, where the topic
	// does not set segment.bytes; 0: 128 MiB.
	SegmentBytes int64
	// MaxBatchBytes is the largest batch, where the topic does not set
	// max.message.bytes; 0: 16 MiB.
	MaxBatchBytes int
	// Retention is the age at which segments go, where the topic does not set
	// retention.ms; 0: never.
	Retention time.Duration
	// NoSync acknowledges what the operating system took, without fsync: a power
	// failure may lose it. Close syncs nevertheless.
	NoSync bool
	// UnflushedMax bounds the bytes accepted and not yet durable, over all
	// partitions; Append waits while it is exceeded. 0: 64 MiB.
	UnflushedMax int64
	// CheckpointBytes is how much of a partition recovery may have to scan;
	// 0: 32 MiB.
	CheckpointBytes int64
	// CheckpointEvery is the longest time for which a partition that was appended
	// to has no new checkpoint; 0: one minute.
	CheckpointEvery time.Duration
	// ScrubBytesPerSecond is the rate at which stored batches are verified in the
	// background; 0: 16 MiB, negative: never.
	ScrubBytesPerSecond int64
	// ScrubEvery is the time from one scrub to the next; 0: 24 hours.
	ScrubEvery time.Duration
	// MaxOpenFiles bounds the files open for reading; those not yet synced come
	// on top. 0: 512.
	MaxOpenFiles int
	// MinFreeBytes is the free space of the disk below which the oldest segments of
	// topics that lose theirs some day (cleanup.policy delete with retention.ms or
	// retention.bytes) go early; each is logged. 0: never.
	MinFreeBytes int64
	// HoldRetention keeps segments until BeginRetention is called: by then everybody who
	// needs old records has pinned them. MinFreeBytes is not held.
	HoldRetention bool
	// CompactBytes bounds the memory that compaction takes for keys, about; more
	// keys take several passes. 0: 32 MiB.
	CompactBytes int64
	// CompactEvery is the time from one look for what to compact to the next;
	// 0: 15 seconds, negative: never.
	CompactEvery time.Duration
	// ProducerExpiry is how long an idempotent producer is remembered after its
	// last batch, as producer.id.expiration.ms of Kafka; one with an open
	// transaction is never forgotten. 0: 24 hours.
	ProducerExpiry time.Duration
	Registerer     prometheus.Registerer // nil: no metrics
	Logger         *slog.Logger          // nil: slog.Default()
	Now            func() time.Time      // nil: time.Now

	roomFrom int64 // see segment.reserve; 0: defaultRoomFrom
	marksMax int64 // see syncedFile; 0: defaultMarksMax
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	setDefault(&o.SegmentBytes, 128<<20)
	setDefault(&o.MaxBatchBytes, 16<<20)
	setDefault(&o.UnflushedMax, 64<<20)
	setDefault(&o.CheckpointBytes, 32<<20)
	setDefault(&o.roomFrom, defaultRoomFrom)
	setDefault(&o.marksMax, defaultMarksMax)
	setDefault(&o.CheckpointEvery, time.Minute)
	setDefault(&o.ScrubBytesPerSecond, 16<<20)
	setDefault(&o.ScrubEvery, 24*time.Hour)
	setDefault(&o.MaxOpenFiles, 512)
	setDefault(&o.CompactBytes, 32<<20)
	setDefault(&o.CompactEvery, 15*time.Second)
	setDefault(&o.ProducerExpiry, 24*time.Hour)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Log is an open data directory. Its methods may be called by any goroutine.
type Log struct {
	o       Options
	fs      vfs.FS
	dir     string
	logger  *slog.Logger
	lock    io.Closer
	files   *fileCache
	metrics *metrics
	flusher *flusher
	damage  damageList
	indexes indexCache
	marks   *syncedFile

	retaining atomic.Bool // retention may delete

	// admin serialises what changes meta; it is held over disk writes.
	admin    sync.Mutex
	meta     *metaFile
	nextID   int64 // producer ids
	idsUntil int64 // the block that producer-ids covers

	mu     sync.RWMutex
	topics map[string]*Topic
	byID   map[[16]byte]*Topic
	alike  map[string][]string // names of topics, by undotted
	closed bool

	background sync.WaitGroup
	stop       context.CancelFunc // of the background
}

// TopicSpec is a topic to be made.
type TopicSpec struct {
	Name       string
	Partitions int32
	Configs    map[string]string // by Kafka's names
	// Distinct refuses a name that differs from an existing topic's in dots and
	// underscores only, as Kafka does.
	Distinct bool
}

// Topic is a topic of an open log.
type Topic struct {
	log  *Log
	name string
	id   [16]byte
	seq  uint32
	now  atomic.Pointer[topicNow]
}

// topicNow is what of a topic can change; it is replaced, never modified.
type topicNow struct {
	partitions []*Partition
	configs    map[string]string
	parsed     *topicConfig
}

// Name is the topic's name.
func (t *Topic) Name() string { return t.name }

// ID tells a topic from another that had its name before.
func (t *Topic) ID() [16]byte { return t.id }

// Partition is partition i, if there is one.
func (t *Topic) Partition(i int32) (*Partition, bool) {
	ps := t.now.Load().partitions
	if i < 0 || int(i) >= len(ps) {
		return nil, false
	}
	return ps[i], true
}

// Partitions are all partitions in order.
func (t *Topic) Partitions() []*Partition { return slices.Clone(t.now.Load().partitions) }

// Configs are the configs that were set, not the defaults.
func (t *Topic) Configs() map[string]string { return maps.Clone(t.now.Load().configs) }

// Open opens the log in dir, which is made if absent, and recovers it. Errors:
// ErrLocked where another process has it open, ErrNewerFormat, ErrDamagedFile,
// ctx.Err. Damage within a partition is no error here: that partition tells.
func Open(ctx context.Context, dir string, o Options) (*Log, error) {
	o.setDefaults()
	l := &Log{
		o: o, fs: o.FS, dir: dir, logger: o.Logger,
		files:   newFileCache(o.FS, o.MaxOpenFiles),
		metrics: newMetrics(),
		topics:  map[string]*Topic{},
		byID:    map[[16]byte]*Topic{},
		alike:   map[string][]string{},
	}
	l.retaining.Store(!o.HoldRetention)
	l.damage.init(l.logger, l.metrics)
	if err := l.acquire(); err != nil {
		return nil, err
	}
	if err := l.load(ctx); err != nil {
		l.files.closeAll()
		return nil, errors.Join(err, l.lock.Close())
	}
	l.flusher = newFlusher(l)
	l.metrics.register(l, o.Registerer)
	background, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.background.Go(func() { l.janitor(background) })
	if o.CompactEvery > 0 {
		l.background.Go(func() { l.cleaner(background) })
	}
	if o.ScrubBytesPerSecond > 0 {
		l.background.Go(func() { l.scrubber(background) })
	}
	return l, nil
}

// acquire makes the directory and locks it.
func (l *Log) acquire() error {
	if err := l.fs.MkdirAll(filepath.Join(l.dir, "topics")); err != nil {
		return diskFull(err)
	}
	lock, err := l.fs.Lock(filepath.Join(l.dir, "LOCK"))
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("%w: %s: is another weir running on it? %w", ErrLocked, l.dir, err)
	}
	if err != nil {
		return err
	}
	l.lock = lock
	for _, dir := range []string{l.dir, filepath.Dir(filepath.Clean(l.dir))} {
		if err := l.fs.SyncDir(dir); err != nil {
			return errors.Join(err, lock.Close())
		}
	}
	return nil
}

// load reads meta, finishes deletions and recovers every partition.
func (l *Log) load(ctx context.Context) error {
	var err error
	if l.meta, err = readMeta(l.fs, l.dir); err != nil {
		return err
	}
	if err := l.loadProducerIDs(); err != nil {
		return err
	}
	l.meta.Epoch++
	clean, err := l.takeCleanMark()
	if err != nil {
		return err
	}
	marks, err := readSynced(l.fs, l.syncedName(), l.logger)
	if err != nil {
		return err
	}
	if err := l.finishDeletions(); err != nil {
		return err
	}
	for i := range l.meta.Topics {
		if err := l.addTopic(&l.meta.Topics[i]); err != nil {
			return err
		}
	}
	if err := l.recoverAll(ctx, clean, marks); err != nil {
		return err
	}
	// A crash before this leaves the old meta and marks, which hold as well.
	if err := writeMeta(l.fs, l.dir, l.meta); err != nil {
		return err
	}
	if l.marks, err = newSyncedFile(l); err != nil {
		return err
	}
	return l.warnUnknown()
}

func (l *Log) recoverAll(ctx context.Context, clean bool, marks map[markKey]int64) error {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	n := 0
	for _, t := range l.topics {
		for _, p := range t.now.Load().partitions {
			n++
			group.Go(func() error {
				mark := unknownMark
				if marks != nil {
					mark = marks[markKey{t.seq, p.index}]
				}
				return p.recover(ctx, clean, mark)
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	l.logger.Info("log opened", "dir", l.dir, "partitions", n, "clean", clean, "seconds", time.Since(began).Seconds())
	return nil
}

// addTopic makes the topic of m known, with partitions not yet recovered.
func (l *Log) addTopic(m *topicMeta) error {
	id, err := m.id()
	if err != nil {
		return err
	}
	t := &Topic{log: l, name: m.Name, id: id, seq: m.Seq}
	now := &topicNow{configs: maps.Clone(m.Configs), parsed: l.parseConfig(m.Configs)}
	for i := range m.Partitions {
		now.partitions = append(now.partitions, newPartition(t, i))
	}
	t.now.Store(now)
	l.topics[m.Name], l.byID[t.id] = t, t
	l.alike[undotted(m.Name)] = append(l.alike[undotted(m.Name)], m.Name)
	return nil
}

func (l *Log) partitionDir(topic string, i int32) string {
	return filepath.Join(l.dir, "topics", topic+"-"+strconv.Itoa(int(i)))
}

// Topic is the topic of that name, if there is one.
func (l *Log) Topic(name string) (*Topic, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.topics[name]
	return t, ok
}

// TopicByID is the topic with that id, if there is one.
func (l *Log) TopicByID(id [16]byte) (*Topic, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.byID[id]
	return t, ok
}

// undotted is what names have in common that differ in dots and underscores only.
func undotted(name string) string { return strings.ReplaceAll(name, ".", "_") }

// CheckDistinct is an ErrInvalidTopic where a topic of another name has one that
// differs in dots and underscores only.
func (l *Log) CheckDistinct(name string) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, other := range l.alike[undotted(name)] {
		if other != name {
			return fmt.Errorf("%w %q: it collides with topic %q: dots and underscores make no difference", ErrInvalidTopic, name, other)
		}
	}
	return nil
}

// Topics are all topics, sorted by name.
func (l *Log) Topics() []*Topic {
	l.mu.RLock()
	defer l.mu.RUnlock()
	ts := make([]*Topic, 0, len(l.topics))
	for _, name := range slices.Sorted(maps.Keys(l.topics)) {
		ts = append(ts, l.topics[name])
	}
	return ts
}

// Partition is partition i of a topic. Errors: ErrUnknownTopic,
// ErrUnknownPartition.
func (l *Log) Partition(topic string, i int32) (*Partition, error) {
	t, ok := l.Topic(topic)
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownTopic, topic)
	}
	p, ok := t.Partition(i)
	if !ok {
		return nil, fmt.Errorf("%w: topic %s partition %d", ErrUnknownPartition, topic, i)
	}
	return p, nil
}

// Usage is the space of the file system that the log is on.
func (l *Log) Usage() (vfs.Usage, error) { return l.fs.Usage(l.dir) }

// ClusterID is made once for a data directory.
func (l *Log) ClusterID() string { return l.meta.Cluster }

// CreateTopic makes a topic, durably. Errors: ErrTopicExists, ErrInvalidTopic,
// ErrInvalidPartitions, ErrInvalidConfig, ErrDiskFull, ErrClosed.
func (l *Log) CreateTopic(spec TopicSpec) (*Topic, error) {
	topics, err := l.CreateTopics([]TopicSpec{spec})
	if err != nil {
		return nil, err
	}
	return topics[0], nil
}

// CreateTopics makes topics, all of them or none, durably with as many syncs as one
// takes. Errors: as CreateTopic.
func (l *Log) CreateTopics(specs []TopicSpec) ([]*Topic, error) {
	for _, spec := range specs {
		if err := checkSpec(spec); err != nil {
			return nil, err
		}
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.open(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(specs, func(s TopicSpec) bool { return l.half(s.Name) }) {
		if err := l.finishDeletions(); err != nil {
			return nil, err
		}
	}
	next := *l.meta
	next.Topics = slices.Clone(next.Topics)
	for i, spec := range specs {
		_, ok := l.Topic(spec.Name)
		if ok || slices.ContainsFunc(specs[:i], func(s TopicSpec) bool { return s.Name == spec.Name }) {
			return nil, fmt.Errorf("%w: %s", ErrTopicExists, spec.Name)
		}
		if spec.Distinct {
			if err := l.CheckDistinct(spec.Name); err != nil {
				return nil, err
			}
		}
		if err := l.makeDirs(spec.Name, 0, spec.Partitions); err != nil {
			return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
		}
		id := newID()
		next.Topics = append(next.Topics, topicMeta{Name: spec.Name, ID: hex.EncodeToString(id[:]), Seq: next.NextSeq, Partitions: spec.Partitions, Configs: maps.Clone(spec.Configs)})
		next.NextSeq++
	}
	err := l.fs.SyncDir(filepath.Join(l.dir, "topics"))
	if err == nil {
		err = l.saveMeta(&next)
	}
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	topics := make([]*Topic, len(specs))
	for i := range specs {
		if err := l.addTopic(&next.Topics[len(next.Topics)-len(specs)+i]); err != nil {
			return nil, err
		}
		topics[i] = l.topics[specs[i].Name]
	}
	return topics, nil
}

func checkSpec(spec TopicSpec) error {
	if err := checkTopicName(spec.Name); err != nil {
		return err
	}
	if spec.Partitions < 1 || spec.Partitions > MaxPartitions {
		return fmt.Errorf("%w: topic %s: %d, expected 1 to %d", ErrInvalidPartitions, spec.Name, spec.Partitions, MaxPartitions)
	}
	if err := CheckConfigs(spec.Configs); err != nil {
		return fmt.Errorf("topic %s: %w", spec.Name, err)
	}
	return nil
}

// makeDirs makes the directories of partitions from until below to; their names are
// for the caller to sync. One that is left of a crash is taken over if it is empty.
func (l *Log) makeDirs(topic string, from, to int32) error {
	for i := from; i < to; i++ {
		dir := l.partitionDir(topic, i)
		if err := l.fs.MkdirAll(dir); err != nil {
			return diskFull(err)
		}
		names, err := l.fs.List(dir)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("%s holds files of no known topic: move it away", dir)
		}
	}
	return nil
}

func (l *Log) saveMeta(next *metaFile) error {
	if err := writeMeta(l.fs, l.dir, next); err != nil {
		return err
	}
	l.meta = next
	return nil
}

func (l *Log) open() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	return nil
}

// changeTopic saves meta with topic name changed. The caller holds admin.
func (l *Log) changeTopic(name string, change func(*topicMeta)) error {
	next := *l.meta
	next.Topics = slices.Clone(next.Topics)
	i := slices.IndexFunc(next.Topics, func(m topicMeta) bool { return m.Name == name && !m.Deleting })
	if i < 0 {
		return fmt.Errorf("%w %q", ErrUnknownTopic, name)
	}
	change(&next.Topics[i])
	return l.saveMeta(&next)
}

// SetConfigs replaces the configs of a topic, durably. Errors: ErrUnknownTopic,
// ErrInvalidConfig, ErrDiskFull, ErrClosed.
func (l *Log) SetConfigs(name string, configs map[string]string) error {
	if err := CheckConfigs(configs); err != nil {
		return fmt.Errorf("topic %s: %w", name, err)
	}
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.open(); err != nil {
		return err
	}
	if err := l.changeTopic(name, func(m *topicMeta) { m.Configs = maps.Clone(configs) }); err != nil {
		return err
	}
	t, _ := l.Topic(name)
	t.now.Store(&topicNow{partitions: t.now.Load().partitions, configs: maps.Clone(configs), parsed: l.parseConfig(configs)})
	return nil
}

// AddPartitions grows a topic to n partitions, durably. Errors: ErrUnknownTopic,
// ErrInvalidPartitions where n is not more than there are, ErrDiskFull, ErrClosed.
func (l *Log) AddPartitions(name string, n int32) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.open(); err != nil {
		return err
	}
	t, ok := l.Topic(name)
	if !ok {
		return fmt.Errorf("%w %q", ErrUnknownTopic, name)
	}
	old := t.now.Load()
	have := int32(len(old.partitions))
	if n <= have || n > MaxPartitions {
		return fmt.Errorf("%w: topic %s: %d, expected more than %d and at most %d", ErrInvalidPartitions, name, n, have, MaxPartitions)
	}
	err := l.makeDirs(name, have, n)
	if err == nil {
		err = l.fs.SyncDir(filepath.Join(l.dir, "topics"))
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", name, err)
	}
	if err := l.changeTopic(name, func(m *topicMeta) { m.Partitions = n }); err != nil {
		return err
	}
	now := *old
	now.partitions = slices.Clone(old.partitions)
	for i := have; i < n; i++ {
		now.partitions = append(now.partitions, newPartition(t, i))
	}
	t.now.Store(&now)
	return nil
}

// DeleteTopic deletes a topic, durably: once it returns, the topic does not come
// back. Readers, appenders and waiters get ErrDeleted. Errors: ErrUnknownTopic,
// ErrDiskFull, ErrClosed.
func (l *Log) DeleteTopic(name string) error {
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.open(); err != nil {
		return err
	}
	if err := l.changeTopic(name, func(m *topicMeta) { m.Deleting = true }); err != nil {
		return err
	}
	l.mu.Lock()
	t := l.topics[name]
	delete(l.topics, name)
	delete(l.byID, t.id)
	l.alike[undotted(name)] = slices.DeleteFunc(l.alike[undotted(name)], func(one string) bool { return one == name })
	if len(l.alike[undotted(name)]) == 0 {
		delete(l.alike, undotted(name))
	}
	l.mu.Unlock()
	for _, p := range t.now.Load().partitions {
		p.shut(fmt.Errorf("%w: %s", ErrDeleted, name))
		p.cleaning.Lock() // once a compaction has ended, and for good
		p.writing.Lock()  // so has a checkpoint, which would be left in the directory
	}
	return l.finishDeletions()
}

// finishDeletions removes the directories of topics that are marked, and then
// the marks. The caller holds admin or is alone.
func (l *Log) finishDeletions() error {
	next := *l.meta
	next.Topics = nil
	for _, m := range l.meta.Topics {
		if !m.Deleting {
			next.Topics = append(next.Topics, m)
			continue
		}
		for i := range m.Partitions {
			if l.used(m.Name, i) {
				continue
			}
			if err := vfs.RemoveAll(l.fs, l.partitionDir(m.Name, i)); err != nil {
				return fmt.Errorf("delete topic %s partition %d: %w", m.Name, i, err)
			}
		}
	}
	if len(next.Topics) == len(l.meta.Topics) {
		return nil
	}
	if err := l.fs.SyncDir(filepath.Join(l.dir, "topics")); err != nil {
		return err
	}
	return l.saveMeta(&next)
}

// half reports whether a topic was deleted whose directories could not be removed.
func (l *Log) half(name string) bool {
	return slices.ContainsFunc(l.meta.Topics, func(m topicMeta) bool { return m.Name == name && m.Deleting })
}

// used reports whether a topic has the directory of a partition. One may that was made
// when the deletion of another of its name had not come to its end.
func (l *Log) used(name string, partition int32) bool {
	return slices.ContainsFunc(l.meta.Topics, func(m topicMeta) bool { return m.Name == name && !m.Deleting && partition < m.Partitions })
}

// warnUnknown names directories that belong to no topic; they are left alone.
func (l *Log) warnUnknown() error {
	names, err := l.fs.List(filepath.Join(l.dir, "topics"))
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, t := range l.topics {
		for _, p := range t.now.Load().partitions {
			known[filepath.Base(p.dir)] = true
		}
	}
	for _, name := range names {
		if !known[name] {
			l.logger.Warn("directory belongs to no topic", "dir", filepath.Join(l.dir, "topics", name))
		}
	}
	return nil
}

// idBlock is how many producer ids one write reserves.
const idBlock = 1000

func (l *Log) idsName() string { return filepath.Join(l.dir, "producer-ids") }

func (l *Log) loadProducerIDs() error {
	l.nextID, l.idsUntil = 1, 1
	if _, err := l.fs.Stat(l.idsName()); err != nil {
		return nil // made with the first id; a directory we cannot read fails elsewhere
	}
	b, err := vfs.ReadFile(l.fs, l.idsName())
	if err != nil {
		return err
	}
	payload, err := idsKind.unwrap(l.idsName(), b)
	if err != nil {
		return err
	}
	f := newFields(payload)
	l.nextID = f.i64()
	if !f.ok || l.nextID < 1 {
		return fmt.Errorf("%s: %w", l.idsName(), ErrDamagedFile)
	}
	l.idsUntil = l.nextID
	return nil
}

// NewProducerID is a producer id that was never given before and never will be
// again, from 1 on. Errors: ErrDiskFull, ErrClosed.
func (l *Log) NewProducerID() (int64, error) {
	l.admin.Lock()
	defer l.admin.Unlock()
	if err := l.open(); err != nil {
		return 0, err
	}
	if l.nextID == l.idsUntil {
		until := l.nextID + idBlock
		if err := vfs.WriteFile(l.fs, l.idsName(), idsKind.wrap(binary.BigEndian.AppendUint64(nil, uint64(until)))); err != nil {
			return 0, fmt.Errorf("new producer id: %w", diskFull(err))
		}
		l.idsUntil = until
	}
	l.nextID++
	return l.nextID - 1, nil
}

func (l *Log) cleanName() string { return filepath.Join(l.dir, "clean") }

// takeCleanMark reports whether the log was closed in good order, and durably
// removes the mark: from now on it is not.
func (l *Log) takeCleanMark() (bool, error) {
	if _, err := l.fs.Stat(l.cleanName()); err != nil {
		return false, nil
	}
	b, err := vfs.ReadFile(l.fs, l.cleanName())
	if err != nil {
		return false, err
	}
	_, err = cleanKind.unwrap(l.cleanName(), b)
	if errors.Is(err, ErrNewerFormat) {
		return false, err
	}
	if rerr := l.fs.Remove(l.cleanName()); rerr != nil {
		return false, rerr
	}
	return err == nil, l.fs.SyncDir(l.dir)
}

// Close makes everything durable, leaves the mark of a clean shutdown and gives
// the directory back. Waiters get ErrClosed. It is an error to close twice:
// ErrClosed.
func (l *Log) Close() error {
	l.admin.Lock()
	defer l.admin.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.background.Wait()
	var parts []*Partition
	for _, t := range l.Topics() {
		parts = append(parts, t.now.Load().partitions...)
	}
	for _, p := range parts {
		p.refuse(ErrClosed)
		p.yieldRoom()
	}
	l.flusher.stop()
	var group errgroup.Group
	group.SetLimit(workers)
	for _, p := range parts {
		group.Go(func() error {
			err := p.closeDown()
			p.shut(ErrClosed)
			return err
		})
	}
	unclean := group.Wait()
	var err error
	if unclean != nil {
		l.logger.Error("not closed in good order; the next start recovers", "err", unclean)
	} else {
		err = vfs.WriteFile(l.fs, l.cleanName(), cleanKind.wrap(nil))
	}
	l.files.closeAll()
	l.metrics.unregister()
	return errors.Join(err, l.lock.Close())
}
