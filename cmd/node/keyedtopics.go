package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
)

// keyedFile says, in the data directory, with how many partitions each keyed stream's
// topic was made: a key is looked for in one of them, so the number is for good.
const keyedFile = "keyed.json"

// madeKeyed is how a keyed stream's topic was made.
type madeKeyed struct {
	TopicID    string `json:"topic_id"`
	Partitions int32  `json:"partitions"`
}

// loadKeyed reads the file, nothing where there is none.
func loadKeyed(fsys vfs.FS, dir string) (map[string]madeKeyed, error) {
	path := filepath.Join(dir, keyedFile)
	data, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]madeKeyed{}, nil
	}
	out := map[string]madeKeyed{}
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("keyed streams: %s: %w (it may be removed, where nobody has changed the partitions of a topic weir.keyed.* by hand: it is made anew)", path, err)
	}
	return out, nil
}

func saveKeyed(fsys vfs.FS, dir string, all map[string]madeKeyed) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFile(fsys, filepath.Join(dir, keyedFile), append(data, '\n'))
}

// keyedTopic makes the topic of a keyed stream where it is not there, and tells its
// partitions. Other partitions than it was made with are an error.
func (n *Node) keyedTopic(topic string, partitions int32) (int32, error) {
	n.keyedMaking.Lock()
	defer n.keyedMaking.Unlock()
	if _, ok := n.log.Topic(topic); !ok {
		if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: partitions, Configs: map[string]string{"retention.ms": "-1"}}); err != nil {
			return 0, err
		}
	}
	have, err := n.partitions(topic)
	if err != nil {
		return 0, err
	}
	id, err := n.topicID(topic)
	if err != nil {
		return 0, err
	}
	all, err := loadKeyed(vfs.OS, n.cfg.DataDir)
	if err != nil {
		return 0, err
	}
	if made, known := all[topic]; known && made.TopicID == id {
		if made.Partitions != have {
			return 0, fmt.Errorf("it has %d partitions and was made with %d: its keys are not where windows look for them. Undo the change, or have it made again from the log of its streams: DELETE /v1/keyed/%s", have, made.Partitions, topic)
		}
		return have, nil
	}
	for name := range all {
		if _, there := n.log.Topic(name); !there {
			delete(all, name)
		}
	}
	all[topic] = madeKeyed{id, have}
	return have, saveKeyed(vfs.OS, n.cfg.DataDir, all)
}

// removeKeyed deletes a keyed stream at a person's wish: one that no declared rule needs,
// or one whose streams stand still with an error, which is made again then.
func (n *Node) removeKeyed(topic string) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	_, there := n.log.Topic(topic)
	unused := n.keyedUnused(topic)
	switch {
	case !there || !strings.HasPrefix(topic, engine.TopicKeyed):
		return huma.Error404NotFound(fmt.Sprintf("there is no keyed stream %q; GET /v1/keyed tells them", topic))
	case !unused && !n.keyedStands(topic):
		return huma.Error409Conflict(fmt.Sprintf("the rules %s read %s, and it works", strings.Join((*n.keyedUses.Load())[topic].rules, ", "), topic))
	case unused && n.keyedInUse(topic):
		return huma.Error409Conflict(topic + " is still read, or a checkpoint says where it ended: try again when the streams have written two checkpoints since the rules changed")
	}
	if err := n.deleteKeyed(topic); err != nil {
		return huma.Error503ServiceUnavailable(err.Error())
	}
	return nil
}

// keyedStands reports whether the streams of a keyed stream are not decided, as an error
// keeps them from it.
func (n *Node) keyedStands(topic string) bool {
	for _, k := range n.program.Load().Keyed() {
		if engine.TopicKeyed+k.Name != topic {
			continue
		}
		for _, s := range n.engine.Status() {
			if s.Err != "" && slices.ContainsFunc(k.Sources, func(src engine.KeyedSource) bool { return src.Stream.Schema.Stream == s.Stream }) {
				return true
			}
		}
	}
	return false
}

func (n *Node) registerRemoveKeyed(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "remove-keyed", Method: "DELETE", Path: "/v1/keyed/{topic}", Errors: []int{404, 409},
		Summary: "Delete a keyed stream that no rule needs, or one whose streams stand still with an error; a rule that needs it has it made from the log"},
		func(_ context.Context, in *struct {
			Topic string `path:"topic"`
		}) (*struct{}, error) {
			return nil, n.removeKeyed(in.Topic)
		})
}
