package node

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// protectDir is the folder of the data directory for keys of sensitive fields.
const protectDir = "protect"

// openProtect makes what keeps sensitive fields off the disk.
func (n *Node) openProtect() (err error) {
	if n.headers, err = protect.NewClientHeaders(n.registry); err != nil {
		return err
	}
	var tables []*table.Definition
	for i := range n.declared {
		tables = append(tables, n.declared[i].Definition)
	}
	return n.protect(n.guardedStreams(), tables)
}

// protect makes a protector of what is declared from now on. Its keys are made where
// the configuration has none and a field needs one.
func (n *Node) protect(streams []*schema.Stream, tables []*table.Definition) error {
	keys, err := n.hmacKeys(protect.Uses(streams, schema.HMAC) || protect.UsesTables(tables, schema.HMAC))
	if err != nil {
		return err
	}
	if n.subjects == nil && protect.Uses(streams, schema.Encrypt) {
		if n.subjects, err = protect.OpenSubjects(filepath.Join(n.cfg.DataDir, protectDir)); err != nil {
			return err
		}
	}
	p, err := protect.New(streams, protect.Options{Keys: keys, Tables: tables, Subjects: n.subjects, Registerer: n.registry})
	if err != nil {
		return err
	}
	n.protector.Store(p)
	return nil
}

// hmacKeys are the configured keys, then the one that was made here once, or is now
// where one is needed.
func (n *Node) hmacKeys(needed bool) ([]protect.Key, error) {
	var keys []protect.Key
	for _, k := range n.cfg.Protect.Keys {
		secret, err := protect.ParseSecret(k.Secret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("protect.keys: %s: %w", k.ID, err)
		}
		keys = append(keys, protect.Key{ID: k.ID, Secret: secret})
	}
	dir := filepath.Join(n.cfg.DataDir, protectDir)
	made, ok, err := protect.LoadKey(dir)
	if err != nil {
		return nil, err
	}
	if !ok && len(keys) == 0 && needed {
		if made, err = protect.MakeKey(dir); err != nil {
			return nil, err
		}
		ok = true
		n.logger.Warn("a key for sensitive fields was made, because protect.keys names none; keep a copy apart from the log: without it, known cards are not recognised again",
			"id", made.ID, "dir", dir)
	}
	if ok {
		keys = append(keys, made)
	}
	return keys, nil
}

// transform rewrites a record batch before it is written.
func (n *Node) transform(topic string, batch []byte) ([]byte, error) {
	return n.protector.Load().Transform(topic, batch)
}

// protectEntry makes of a change of a table or list what may be written of it.
func (n *Node) protectEntry(d *table.Definition, c *table.Change) error {
	return n.protector.Load().Entry(d, c)
}

// fromClients is transform for what clients produce: Weir's own headers are taken out
// of what goes into streams and dead letters, where they mean something.
func (n *Node) fromClients() func(topic string, batch []byte) ([]byte, error) {
	return func(topic string, batch []byte) ([]byte, error) {
		if topic == event.TopicDeadLetters || n.isStream(topic) {
			var err error
			if batch, err = n.headers.Strip(batch); err != nil {
				return nil, err
			}
		}
		return n.transform(topic, batch)
	}
}

// isStream reports whether a stream reads the topic.
func (n *Node) isStream(topic string) bool {
	return slices.ContainsFunc(n.streams(), func(s *schema.Stream) bool { return s.Topic == topic })
}

func (n *Node) closeSubjects() error {
	if n.subjects == nil {
		return nil
	}
	return n.subjects.Close()
}

// Erasure names whose values are to be erased.
type Erasure struct {
	Subject string `json:"subject" minLength:"1" maxLength:"4096" doc:"A value of the subject's field: as clients write it, or as it stands in the log."`
}

// Erased says what was erased.
type Erased struct {
	Keys int `json:"keys" doc:"Keys that were shredded; 0 where there was none for the subject."`
}

func (n *Node) registerErase(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "erase", Method: http.MethodPost, Path: "/v1/erase",
		Summary: "Shred the key of a subject, so that its encrypted values can never be read again"},
		func(_ context.Context, in *struct{ Body Erasure }) (*answer[Erased], error) {
			keys, err := n.protector.Load().Erase(in.Body.Subject)
			if err != nil {
				n.logger.Error("a subject could not be erased", "err", err)
				return nil, err
			}
			n.logger.Info("a subject was erased", "keys", keys)
			return &answer[Erased]{Erased{keys}}, nil
		})
}
