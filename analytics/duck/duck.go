package duck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// formatVersion is the version of the layout of Weir's own schemas in the file.
// A database of another version is refilled from the log.
const formatVersion = 1

// Options are how a database is opened.
type Options struct {
	// MemoryMax bounds DuckDB's memory in bytes, buffers and queries together.
	// 0 means a quarter of the machine's memory, at most 4 GiB.
	MemoryMax int64
	// Threads is how many threads queries share; 0 means one for each CPU.
	Threads int
	// TempDir is where large queries spill; empty means path + ".tmp".
	TempDir string
	// TempMax bounds the spill files in bytes; 0 means 16 GiB.
	TempMax int64
	// Logger is slog.Default where nil.
	Logger *slog.Logger
}

// DB is an open database.
type DB struct {
	path   string
	opts   Options
	logger *slog.Logger

	// mu is held for reading while a connection is used and for writing while the
	// instance is replaced.
	mu         sync.RWMutex
	inst       mapping.Database
	generation int // of inst; a connection of another one connects again
	open       bool
	writer     *Writer
	functions  []*TableFunction
	hooks      []func(*Writer) error
	moved      bool

	connsMu sync.Mutex
	conns   map[*Conn]struct{}

	checkedMu sync.Mutex
	checked   map[string]bool // statements that the policy has let pass
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the SQL database is closed")

// ErrReopening is returned while the database is being opened again; it passes.
var ErrReopening = errors.New("the SQL database is being opened again, try once more")

// Open opens or creates the file database at path. Where the file is damaged or
// of an unknown version it is moved aside (path + ".bad") and Moved reports true.
// A lock held by another process, a missing permission and a full disk are errors.
func Open(path string, o Options) (*DB, error) {
	db := &DB{path: path, opts: o, logger: o.Logger}
	if db.logger == nil {
		db.logger = slog.Default()
	}
	if db.opts.TempDir == "" {
		db.opts.TempDir = path + ".tmp"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("SQL database: %w", err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.openOrReplace(); err != nil {
		return nil, err
	}
	return db, nil
}

// Moved reports whether Open or Reopen put a database aside, so that this one
// began empty.
func (db *DB) Moved() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.moved
}

// Path is the database file.
func (db *DB) Path() string { return db.path }

func (db *DB) openOrReplace() error {
	err := db.start()
	if err == nil {
		return nil
	}
	if !replaceable(err) {
		return fmt.Errorf("SQL database %s: %w", db.path, err)
	}
	aside := db.path + ".bad"
	if merr := moveAside(db.path, aside); merr != nil {
		return fmt.Errorf("SQL database %s: %w (and it could not be moved aside: %w)", db.path, err, merr)
	}
	db.moved = true
	db.logger.Warn("the SQL database could not be used; it was moved aside and is being refilled from the log", "file", db.path, "moved_to", aside, "error", err)
	if err := db.start(); err != nil {
		return fmt.Errorf("SQL database %s: %w", db.path, err)
	}
	return nil
}

// replaceable reports whether an error of opening is the file's own fault.
func replaceable(err error) bool {
	if errors.Is(err, errVersion) {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, not := range []string{"Could not set lock", "Permission denied", "No space left", "Too many open files", "Disk quota", "Cannot open file", "Out of Memory"} {
		if strings.Contains(e.Message, not) {
			return false
		}
	}
	return true
}

// moveAside renames the database and its write-ahead log, replacing what was put
// aside before: one damaged copy is kept, not one for each start.
func moveAside(path, aside string) error {
	for _, suffix := range []string{"", ".wal"} {
		if err := os.Remove(aside + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

var errVersion = errors.New("written by another version of Weir")

// start opens the instance, its writer and its schemas; db.mu is held.
func (db *DB) start() (err error) {
	if err := os.MkdirAll(db.opts.TempDir, 0o750); err != nil {
		return err
	}
	inst, err := openInstance(db.path, db.settings())
	if err != nil {
		return err
	}
	db.inst, db.open = inst, true
	db.generation++
	defer func() {
		if err != nil {
			db.stop()
		}
	}()
	c, err := db.connect()
	if err != nil {
		return err
	}
	db.writer = &Writer{db: db, conn: c, tables: map[string]*Table{}}
	for _, text := range []string{
		"SET GLOBAL TimeZone='UTC'",
		"CREATE SCHEMA IF NOT EXISTS weir_state",
		"CREATE TABLE IF NOT EXISTS weir_state.meta(version INTEGER)",
		"INSERT INTO weir_state.meta SELECT " + strconv.Itoa(formatVersion) + " WHERE NOT EXISTS (FROM weir_state.meta)",
	} {
		if err := c.exec(text); err != nil {
			return err
		}
	}
	version, err := c.int64("SELECT max(version)::BIGINT FROM weir_state.meta")
	if err != nil {
		return err
	}
	if version != formatVersion {
		return fmt.Errorf("%w: format %d, this binary has %d", errVersion, version, formatVersion)
	}
	for _, f := range db.functions {
		if err := c.register(f); err != nil {
			return err
		}
	}
	for _, f := range db.hooks {
		if err := f(db.writer); err != nil {
			return err
		}
	}
	return c.exec("SET lock_configuration=true")
}

// settings are given when the instance opens, so that no statement runs without.
func (db *DB) settings() [][2]string {
	memory := db.opts.MemoryMax
	if memory <= 0 {
		memory = min(physicalMemory()/4, 4<<30)
	}
	threads := db.opts.Threads
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	tempMax := db.opts.TempMax
	if tempMax <= 0 {
		tempMax = 16 << 30
	}
	return [][2]string{
		{"memory_limit", strconv.FormatInt(memory, 10) + "B"},
		{"threads", strconv.Itoa(threads)},
		{"temp_directory", db.opts.TempDir},
		{"max_temp_directory_size", strconv.FormatInt(tempMax, 10) + "B"},
		// The default of 16 MB stalls commits for 0.2 to 0.4 s again and again;
		// the writer's owner calls Checkpoint when it suits.
		{"wal_autocheckpoint", "1GB"},
		{"autoinstall_known_extensions", "false"},
		{"autoload_known_extensions", "false"},
		{"allow_community_extensions", "false"},
		{"allow_persistent_secrets", "false"},
		{"enable_external_access", "false"},
		// Connections set their own search path, and nothing else, after the lock.
		{"allowed_configs", "['search_path']"},
		{"errors_as_json", "true"},
		{"preserve_insertion_order", "true"},
	}
}

func openInstance(path string, settings [][2]string) (mapping.Database, error) {
	var cfg mapping.Config
	if mapping.CreateConfig(&cfg) == mapping.StateError {
		return mapping.Database{}, errors.New("DuckDB gives no configuration")
	}
	defer mapping.DestroyConfig(&cfg)
	for _, kv := range settings {
		if mapping.SetConfig(cfg, kv[0], kv[1]) == mapping.StateError {
			return mapping.Database{}, fmt.Errorf("DuckDB refuses the setting %s=%s", kv[0], kv[1])
		}
	}
	var inst mapping.Database
	var message string
	if mapping.OpenExt(path, &inst, cfg, &message) == mapping.StateError {
		mapping.Close(&inst)
		return mapping.Database{}, parseError(message)
	}
	return inst, nil
}

// stop closes the writer and the instance; db.mu is held.
func (db *DB) stop() {
	if db.writer != nil {
		db.writer.release()
		db.writer.conn.disconnect()
		db.writer = nil
	}
	// The file stays locked while one connection is left.
	for c := range db.conns {
		c.conn.disconnect()
	}
	if db.open {
		mapping.Close(&db.inst)
		db.open = false
	}
}

// Writer is the one writer. It is another one after Reopen.
func (db *DB) Writer() *Writer {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.writer
}

// OnOpen runs f on the writer now and again after each Reopen: it creates the views
// and macros that f's owner needs. Nobody else uses the writer at that time.
func (db *DB) OnOpen(f func(w *Writer) error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.open {
		return ErrClosed
	}
	if err := f(db.writer); err != nil {
		return err
	}
	db.hooks = append(db.hooks, f)
	return nil
}

// Reopen closes the instance and opens the file again, or an empty one where it
// is damaged: what is left to do when DuckDB says that the database "has been
// invalidated" (a full disk during a commit). Only the writer's owner calls it: the
// Writer from before is of no more use. Running queries end first; connections
// stay usable.
func (db *DB) Reopen() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.stop()
	return db.openOrReplace()
}

// Close checkpoints and closes the database. It waits for running queries, which
// their owners have cancelled.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.open {
		return nil
	}
	var err error
	if db.writer != nil {
		db.writer.release()
		if err = db.writer.conn.exec("CHECKPOINT"); err != nil {
			// Nothing is lost: the write-ahead log has it.
			db.logger.Warn("the SQL database was closed without a checkpoint", "file", db.path, "error", err)
			err = nil
		}
	}
	db.stop()
	if rerr := os.RemoveAll(db.opts.TempDir); rerr != nil {
		err = fmt.Errorf("SQL database: spill directory: %w", rerr)
	}
	return err
}

// WALSize is the size of the write-ahead log in bytes.
func (db *DB) WALSize() int64 { return fileSize(db.path + ".wal") }

// Size is the size of the database file in bytes, without the write-ahead log.
func (db *DB) Size() int64 { return fileSize(db.path) }

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// physicalMemory is the machine's memory in bytes; 8 GiB where it cannot be told.
func physicalMemory() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
				if kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err == nil {
					return kb << 10
				}
			}
		}
	}
	return 8 << 30
}

// interruptEvery is how often an interrupt is repeated while a cancelled query
// still runs: one that comes just before the query begins is forgotten by DuckDB.
const interruptEvery = 20 * time.Millisecond

// interruptOn interrupts c whenever ctx is done, until the returned function is
// called, which waits until no further interrupt can come.
func interruptOn(ctx context.Context, c mapping.Connection) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	over, ended := make(chan struct{}), make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(ended)
		tick := time.NewTicker(interruptEvery)
		defer tick.Stop()
		for {
			mapping.Interrupt(c)
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(over)
		if !unhook() {
			<-ended
		}
	}
}
