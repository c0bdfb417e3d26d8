package node

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
)

// protectDir is the folder of the data directory for keys of sensitive fields.
const protectDir = "protect"

// openProtect makes what keeps sensitive fields off the disk. Its keys are made
// where the configuration has none and a field needs one.
func (n *Node) openProtect() error {
	keys, err := n.hmacKeys()
	if err != nil {
		return err
	}
	if protect.Uses(n.cfg.Streams, schema.Encrypt) {
		if n.subjects, err = protect.OpenSubjects(filepath.Join(n.cfg.DataDir, protectDir)); err != nil {
			return err
		}
	}
	if n.headers, err = protect.NewClientHeaders(n.registry); err != nil {
		return err
	}
	n.protector, err = protect.New(n.cfg.Streams, protect.Options{Keys: keys, Subjects: n.subjects, Registerer: n.registry})
	return err
}

// hmacKeys are the configured keys, then the one that was made here once.
func (n *Node) hmacKeys() ([]protect.Key, error) {
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
	if !ok && len(keys) == 0 && protect.Uses(n.cfg.Streams, schema.HMAC) {
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

// transform is what rewrites record batches before they are written; nil where no
// stream has a sensitive field.
func (n *Node) transform() func(topic string, batch []byte) ([]byte, error) {
	if !n.protector.Active() {
		return nil
	}
	return n.protector.Transform
}

// fromClients is transform for what clients produce: Weir's own headers are taken out
// of what goes into streams and dead letters, where they mean something.
func (n *Node) fromClients() func(topic string, batch []byte) ([]byte, error) {
	topics := map[string]bool{event.TopicDeadLetters: true}
	for _, s := range n.cfg.Streams {
		topics[s.Topic] = true
	}
	transform := n.transform()
	return func(topic string, batch []byte) ([]byte, error) {
		if topics[topic] {
			var err error
			if batch, err = n.headers.Strip(batch); err != nil {
				return nil, err
			}
		}
		if transform != nil {
			return transform(topic, batch)
		}
		return batch, nil
	}
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
			keys, err := n.protector.Erase(in.Body.Subject)
			if err != nil {
				n.logger.Error("a subject could not be erased", "err", err)
				return nil, err
			}
			n.logger.Info("a subject was erased", "keys", keys)
			return &answer[Erased]{Erased{keys}}, nil
		})
}
