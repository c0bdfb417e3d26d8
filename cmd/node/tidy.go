package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/cep/engine"
)

// tidyEvery is the time between two looks for what nobody needs any more.
const tidyEvery = time.Hour

// tidy forgets programs whose time is over, and deletes keyed streams that no program
// needs, until ctx is done.
func (n *Node) tidy(ctx context.Context) error {
	again := time.NewTicker(tidyEvery)
	defer again.Stop()
	for {
		n.tidyOnce(time.Now())
		select {
		case <-again.C:
		case <-n.reloaded:
		case <-ctx.Done():
			return nil
		}
	}
}

// tidyOnce does so once. No program is declared meanwhile.
func (n *Node) tidyOnce(now time.Time) {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.prunePrograms(now)
	for _, t := range n.log.Topics() {
		if n.keyedNeeded(t.Name()) {
			continue
		}
		if err := n.deleteKeyed(t.Name()); err != nil {
			n.logger.Error("a keyed stream that nobody needs could not be deleted; it is tried again", "topic", t.Name(), "err", err, "in", tidyEvery)
		}
	}
}

// prunePrograms takes programs out of the catalogue that have not been declared for as
// long as is configured, or for the longest where there are too many. One that a shard
// runs or changes to stays.
func (n *Node) prunePrograms(now time.Time) {
	running := n.runningPrograms()
	ended := slices.DeleteFunc(n.programs.ended(), func(p savedProgram) bool { return running[p.ID] })
	keep := n.cfg.Engine.KeepPrograms
	for i, p := range ended {
		if len(ended)-i <= programsMax && (keep == 0 || now.Sub(*p.Until) < keep) {
			break // the rest ended later
		}
		if err := n.programs.remove(p.ID); err != nil {
			n.logger.Error("a program whose time is over could not be removed from the catalogue", "program", p.ID, "err", err)
			return
		}
		n.logger.Info("a program was removed from the catalogue", "program", p.ID, "declared", p.Since, "until", p.Until)
	}
	n.programs.forget(func(id string) bool { return running[id] })
}

// runningPrograms are the programs that are declared, that decide and that are changed to.
func (n *Node) runningPrograms() map[string]bool {
	running := map[string]bool{n.program.Load().ID(): true}
	for _, s := range n.engine.Status() {
		running[s.Program], running[s.Warming] = true, true
		for _, id := range strings.Split(s.Program, engine.Over) { // of which it is a part
			running[id] = true
		}
	}
	return running
}

// keyedNeeded reports whether a topic is none of a keyed stream, or one that a program
// of the catalogue reads, or that is in use.
func (n *Node) keyedNeeded(topic string) bool {
	return !n.keyedUnused(topic) || n.programs.keyed()[topic] || n.keyedInUse(topic)
}

// keyedInUse reports whether the shards of a keyed stream run, or a checkpoint of its
// sources says where it ended.
func (n *Node) keyedInUse(topic string) bool {
	if slices.ContainsFunc(n.engine.KeyedStatus(), func(k engine.KeyedStatus) bool { return k.Topic == topic }) {
		return true
	}
	t, ok := n.log.Topic(topic)
	if !ok {
		return true
	}
	for _, p := range t.Partitions() {
		if _, _, pinned := p.Pinned(); pinned {
			return true
		}
	}
	return false
}

// deleteKeyed deletes a keyed stream's topic and its checkpoints. A rule that needs it
// again has it made from the sources' logs.
func (n *Node) deleteKeyed(topic string) error {
	t, ok := n.log.Topic(topic)
	if !ok {
		return nil
	}
	size, partitions := int64(0), len(t.Partitions())
	for _, p := range t.Partitions() {
		size += p.Size()
	}
	if err := n.log.DeleteTopic(topic); err != nil {
		return err
	}
	n.logger.Info("a keyed stream that no program needs was deleted", "topic", topic, "bytes", size)
	for p := range partitions {
		if err := os.RemoveAll(filepath.Join(n.cfg.DataDir, checkpointDir, fmt.Sprintf("%s-%d", topic, p))); err != nil {
			return err
		}
	}
	return nil
}

// keptUntil is when a keyed stream that no declared rule needs may be deleted, nil where
// that is not known: it is needed, or kept for ever.
func (n *Node) keptUntil(topic string) *time.Time {
	if keep := n.cfg.Engine.KeepPrograms; keep > 0 && strings.HasPrefix(topic, engine.TopicKeyed) {
		if last := n.programs.lastNeeded(topic); last != nil {
			at := last.Add(keep)
			return &at
		}
	}
	return nil
}
