package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/test/published"
)

// client is one library and what it can do.
type client struct {
	name         string
	version      func(root string) (string, error)
	language     *language
	program      string // of the machine, beside those of the language
	argv         func(built string) []string
	codecs       []string
	idempotent   bool
	next         bool // groups whose partitions the broker assigns (KIP-848)
	migrates     bool // between that protocol and the classic one, in the program here
	transactions bool // produces in transactions
	offsets      bool // commits offsets in transactions
	leavesOut    bool // leaves aborted records and the marks of transactions out
	assigned     bool // tells its assignment
	admin        bool
	deletes      bool   // deletes records
	plain        bool   // neither timestamps nor headers of each record
	batches      bool   // produces in batches, on command
	remarks      string // what it cannot do, and what it has to be told
}

var all = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// clients are the libraries; their versions are in the build files of their folders.
var clients = []*client{
	{name: "kcat", version: ofMachine("1.7.1 with librdkafka 2.0.2"), language: golang, program: "kcat", argv: goProgram("kcat"), codecs: all,
		idempotent: true, transactions: true, leavesOut: true, assigned: true, plain: true,
		remarks: "with `-X transactional.id=ID` it commits at the end of its input, and aborts when it is interrupted before and has sent all that it read; cannot commit offsets in a transaction, make topics, delete records, or choose timestamps"},
	{name: "franz-go", version: required("go/go.mod", `twmb/franz-go v(\S+)`), language: golang, argv: goProgram("franz"), codecs: all,
		idempotent: true, next: true, migrates: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "its own test suite passes, too; a `GroupTransactSession` with the cooperative balancer is exactly once only as said below"},
	{name: "sarama", version: required("go/go.mod", `IBM/sarama v(\S+)`), language: golang, argv: goProgram("sarama"), codecs: all,
		idempotent: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "knows no KIP-848; idempotence wants `Net.MaxOpenRequests = 1`, a restart of the broker more than the 3 tries of `Producer.Retry.Max`"},
	{name: "kafka-go", version: required("go/go.mod", `segmentio/kafka-go v(\S+)`), language: golang, argv: goProgram("kafkago"), codecs: all,
		offsets: true, admin: true, batches: true,
		remarks: "knows no KIP-848; cannot produce idempotently or in a transaction, delete records, or tell its assignment; " +
			"its Reader shows aborted records, and the ends of transactions as records, whatever its isolation level"},
	{name: "confluent-kafka-go", version: required("go/go.mod", `confluent-kafka-go/v2 v(\S+)`), language: golang, argv: goProgram("confluent"), codecs: all,
		idempotent: true, next: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "KIP-848 with `group.protocol=consumer`"},
	{name: "kafkajs", version: required("kafkajs/package.json", `"kafkajs": "([^"]+)"`), language: node,
		argv:       func(dir string) []string { return []string{"node", filepath.Join(dir, "client.js")} },
		codecs:     []string{"none", "gzip", "snappy"},
		idempotent: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "knows no KIP-848, and lz4 and zstd only with other modules; a long restart of the broker wants more than the 5 tries of `retry.retries`"},
	{name: "confluent-kafka", version: required("python/requirements.txt", `confluent-kafka==(\S+)`), language: python, argv: func(dir string) []string {
		return []string{filepath.Join(dir, "venv", "bin", "python"), filepath.Join(dir, "client.py")}
	}, codecs: all, idempotent: true, next: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "KIP-848 with `group.protocol=consumer`"},
	{name: "kafka-clients", version: required("java/pom.xml", `kafka-clients</artifactId>\s*<version>([^<]+)`), language: java, argv: javaProgram, codecs: all,
		idempotent: true, next: true, migrates: true, transactions: true, offsets: true, leavesOut: true, assigned: true, admin: true, deletes: true, batches: true,
		remarks: "KIP-848 with `group.protocol=consumer`"},
}

// required is the version that a build file asks for.
func required(file, pattern string) func(root string) (string, error) {
	return func(root string) (string, error) {
		body, err := os.ReadFile(filepath.Join(root, "test", "clients", file))
		if err != nil {
			return "", err
		}
		m := regexp.MustCompile(pattern).FindSubmatch(body)
		if m == nil {
			return "", fmt.Errorf("%s does not ask for %s", file, pattern)
		}
		return string(m[1]), nil
	}
}

// ofMachine is the version that was tried of what a machine brings along.
func ofMachine(version string) func(string) (string, error) {
	return func(string) (string, error) { return version, nil }
}

func goProgram(name string) func(string) []string {
	return func(dir string) []string { return []string{filepath.Join(dir, name)} }
}

func javaProgram(dir string) []string {
	return []string{"java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(dir, "classes") + ":" + filepath.Join(dir, "lib", "*"), "clients.Client"}
}

// language builds the clients of one folder into a directory that git ignores,
// again only when a file of the folder has changed.
type language struct {
	folder string
	tools  []string
	// fetch brings what the registry has; its failure means that the clients are
	// not run. make is everything after; its failure is one of the tests.
	fetch, make func(source, into string) error
	once        sync.Once
	dir         string
	failed      error
}

var errRegistry = errors.New("could not be fetched")

var (
	golang = &language{folder: "go", tools: []string{"go"},
		fetch: func(source, _ string) error { return command(source, "go", "mod", "download") },
		make: func(source, into string) error {
			if err := command(source, "go", "vet", "./..."); err != nil {
				return err
			}
			if err := command(source, "go", "build", "-o", into+"/", "./..."); err != nil {
				return err
			}
			return command(source, "go", "test", "-c", "-o", filepath.Join(into, "kgo.test"), kgoPackage)
		}}
	node = &language{folder: "kafkajs", tools: []string{"node", "npm"},
		fetch: func(source, into string) error {
			if err := copyFiles(source, into, "package.json", "package-lock.json", "client.js"); err != nil {
				return err
			}
			return command(into, "npm", "ci", "--no-audit", "--no-fund", "--prefer-offline")
		},
		make: func(_, into string) error { return command(into, "node", "--check", "client.js") }}
	python = &language{folder: "python", tools: []string{"python3"},
		fetch: func(source, into string) error {
			if err := copyFiles(source, into, "client.py"); err != nil {
				return err
			}
			venv := filepath.Join(into, "venv")
			if err := command(into, "python3", "-m", "venv", venv); err != nil {
				return err
			}
			return command(into, filepath.Join(venv, "bin", "pip"), "install", "-q", "-r", filepath.Join(source, "requirements.txt"))
		},
		make: func(_, into string) error {
			return command(into, filepath.Join(into, "venv", "bin", "python"), "-m", "py_compile", "client.py")
		}}
	// Maven asks the registry only where its own cache lacks something.
	java = &language{folder: "java", tools: []string{"java", "mvn"},
		fetch: func(source, into string) error {
			if command(source, "mvn", "-q", "-B", "-o", "-Doutput="+into, "compile") == nil {
				return nil
			}
			err := command(source, "mvn", "-q", "-B", "-Doutput="+into, "compile")
			if err != nil && strings.Contains(err.Error(), "COMPILATION ERROR") {
				return nil // everything was there: make says what is wrong
			}
			return err
		},
		make: func(source, into string) error {
			return command(source, "mvn", "-q", "-B", "-o", "-Doutput="+into, "compile")
		}}
)

// build is the command line of a client, built.
func (c *client) build(t *testing.T) []string {
	t.Helper()
	for _, tool := range append(slices.Clip(c.language.tools), c.program) {
		if _, err := exec.LookPath(tool); tool != "" && err != nil {
			c.absent(t, err)
		}
	}
	l := c.language
	l.once.Do(func() { l.dir, l.failed = l.build(published.Root(t)) })
	switch {
	case errors.Is(l.failed, errRegistry):
		c.absent(t, l.failed)
	case l.failed != nil:
		t.Fatal(l.failed)
	}
	return c.argv(l.dir)
}

// absent reports the client as not run; in CI it has to be run.
func (c *client) absent(t *testing.T, why error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not run: client %s, which CI has to run: %v", c.name, why)
	}
	published.Absent(t, "client "+c.name, why.Error())
}

func (l *language) build(root string) (string, error) {
	source := filepath.Join(root, "test", "clients", l.folder)
	sum, err := fingerprint(source)
	if err != nil {
		return "", err
	}
	into := filepath.Join(root, ".cache", "clients", l.folder)
	stamp := filepath.Join(into, "built")
	if was, err := os.ReadFile(stamp); err == nil && string(was) == sum {
		return into, nil
	}
	if err := os.RemoveAll(into); err != nil {
		return "", err
	}
	if err := os.MkdirAll(into, 0o700); err != nil {
		return "", err
	}
	if err := l.fetch(source, into); err != nil {
		return "", fmt.Errorf("what %s needs %w: %w", l.folder, errRegistry, err)
	}
	if err := l.make(source, into); err != nil {
		return "", err
	}
	return into, os.WriteFile(stamp, []byte(sum), 0o600)
}

// fingerprint is a hash of all files of a folder.
func fingerprint(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", p, len(body))
		h.Write(body)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out.Bytes())
	}
	return nil
}

func copyFiles(from, into string, names ...string) error {
	for _, name := range names {
		body, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(into, name), body, 0o600); err != nil {
			return err
		}
	}
	return nil
}
