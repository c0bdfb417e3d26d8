package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/ingest/schema"
)

// FileSizeMax is the largest weir.yaml that is read, in bytes.
const FileSizeMax = 1 << 20

// Config is a checked weir.yaml, with every default filled in.
type Config struct {
	File      string // as it was named; empty for Default
	DataDir   string // resolved against the directory of File, as all paths are
	KafkaAddr string
	HTTPAddr  string
	SQLAddr   string
	RulesDir  string // empty where there is none
	Streams   []*schema.Stream
	Receivers []Receiver
	Tables    []Table // and lists
	Log       Log
	Kafka     Kafka
	Engine    Engine
	SQL       SQL
	Protect   Protect
}

// Engine is how the engine runs.
type Engine struct {
	CheckpointEvery time.Duration
	KeepPrograms    time.Duration // 0: for ever
}

// SQL bounds what queries may use.
type SQL struct {
	MemoryMax    int64 // bytes, of the whole database
	QueryTimeout time.Duration
}

// Protect is how sensitive fields are protected.
type Protect struct {
	Keys []HMACKey // the first makes tokens; none: one is made in DataDir where a field needs it
}

// HMACKey is a key of fields that are sensitive: hmac.
type HMACKey struct {
	ID     string
	Secret Secret // base64, see protect.ParseSecret
}

// Receiver is where alerts go. Exactly one kind is set.
type Receiver struct {
	Name        string
	Match       alerts.Match
	RetryFor    time.Duration // how long an alert that is not taken is tried again
	MaxInFlight int           // notifications at once
	Webhook     *Webhook
}

// Webhook is a receiver that takes an HTTP POST for each alert.
type Webhook struct {
	URL        string   // may hold a token: print the Webhook, not its URL
	Secrets    []Secret // whsec_..., each signs; none: not signed
	Timeout    time.Duration
	AllowCIDRs []Prefix
}

// Default is the configuration without any file: the log, SQL and console on
// loopback addresses, no stream, no rule, no receiver.
func Default() Config {
	c, err := Parse("", nil, ParseOptions{})
	if err != nil { // the defaults are part of the program
		panic(fmt.Sprintf("config: the defaults do not parse: %v", err))
	}
	return *c
}

// Load reads and checks the file at path. An error is schema.Problems, or wraps
// what the file system said where the file cannot be read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, FileSizeMax+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return Parse(path, data, ParseOptions{Dir: filepath.Dir(path), Env: os.LookupEnv, ReadFile: os.ReadFile, DirExists: dirExists})
}

// rulesDefault is the directory of the rule files beside weir.yaml, where that names none.
const rulesDefault = "rules"

// RulesNow is RulesDir, or the default directory where it was made since the file was read.
func (c *Config) RulesNow() string {
	if c.RulesDir == "" && c.File != "" {
		if dir := filepath.Join(filepath.Dir(c.File), rulesDefault); dirExists(dir) {
			return dir
		}
	}
	return c.RulesDir
}

// ParseOptions is what the world outside the file offers to Parse. The zero value
// is a world without environment variables and without files.
type ParseOptions struct {
	Dir       string // that relative paths are relative to
	Env       func(name string) (string, bool)
	ReadFile  func(path string) ([]byte, error)
	DirExists func(path string) bool
}

// Parse checks the text of a file called name. Every error it returns is
// schema.Problems. data is not retained.
func Parse(name string, data []byte, o ParseOptions) (*Config, error) {
	w := newWalker(name, o)
	if len(data) > FileSizeMax {
		w.problem(1, 1, "", "", "the file has more than %d bytes; that cannot be a weir.yaml", FileSizeMax)
		return nil, w.problems
	}
	root := w.parse(data)
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	var d draft
	walk(w, value{node: root, at: root}, topKeys, &d)
	cfg := d.build(w)
	if err := w.sorted().ErrOrNil(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// parse is the root mapping of the file's one document.
func (w *walker) parse(data []byte) (root *yaml.Node) {
	root = &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}
	defer func() {
		// A parser that panics on a file must not take the command down.
		if r := recover(); r != nil {
			w.problem(1, 1, "", "", "not YAML that can be read: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return root
	case err != nil:
		w.syntax(err)
		return root
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case err == nil:
		w.problem(max(more.Line, 1), max(more.Column, 1), "", "", "found a second YAML document, expected only one")
	case !errors.Is(err, io.EOF):
		w.syntax(err)
	}
	if len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	return root
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax reports what the YAML parser said; it knows the line at most.
func (w *walker) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			line = n
		}
		text = strings.Replace(text, m[0], "", 1)
	}
	hint := ""
	switch {
	case strings.Contains(text, "cannot start any token"):
		hint = "YAML indents with spaces, not tabs, and quotes text that begins with @, ` or %"
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "check the indentation, and quote text that has a colon and a space in it"
	case strings.Contains(text, "did not find expected key"):
		hint = "check the indentation of this line and of those before it"
	}
	w.problem(line, 0, "", hint, "not valid YAML: %s", text)
}

func dirExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
