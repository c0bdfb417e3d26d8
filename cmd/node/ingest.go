package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/ingest/deadletter"
	"github.com/weirstream/weir/ingest/httpin"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// openIngest makes what takes events in over HTTP, and what replays dead letters.
func (n *Node) openIngest() (err error) {
	n.replay = deadletter.New(n.streams(), sink.NewLocal(n.log), n.openRange, deadletter.Options{Transform: n.transform, Logger: n.logger.With("part", "deadletters")})
	n.ingest, err = httpin.New(context.Background(), n.streams(), sink.NewLocal(n.log), httpin.Options{
		Open: n.openRange, OffsetForTime: n.offsetForTime, Transform: n.transform, Registerer: n.registry, Logger: n.logger.With("part", "http"),
	})
	return err
}

// openRange is openSource that ends before the offset to.
func (n *Node) openRange(_ context.Context, topic string, partition int32, from, to int64) (source.Source, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return nil, fmt.Errorf("%s[%d]: %w", topic, partition, err)
	}
	return source.NewPartition(p, source.Options{From: max(from, p.Start()), To: to, Uncommitted: true}), nil
}

func (n *Node) offsetForTime(topic string, partition int32, ms int64) (int64, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	offset, _, err := p.OffsetForTime(ms)
	return offset, err
}

// Replay says which dead letters to replay.
type Replay struct {
	Stream  string   `json:"stream" minLength:"1" doc:"Into which stream."`
	Reason  string   `json:"reason,omitempty" doc:"Only those of this reason."`
	Columns []string `json:"columns,omitempty" doc:"Of the CSV files whose dead letters do not name them."`
	DryRun  bool     `json:"dry_run,omitempty" doc:"Count, and write nothing."`
}

func (n *Node) registerReplay(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "replay-deadletters", Method: http.MethodPost, Path: "/v1/deadletters/replay",
		Summary: "Write the dead letters that fit their stream's declaration now into the stream, each once"},
		func(ctx context.Context, in *struct{ Body Replay }) (*answer[deadletter.Result], error) {
			res, err := n.replay.Replay(ctx, deadletter.Request{Stream: in.Body.Stream, Reason: in.Body.Reason, Columns: in.Body.Columns, DryRun: in.Body.DryRun})
			switch {
			case errors.Is(err, deadletter.ErrUnknownStream):
				return nil, huma.Error404NotFound(err.Error() + ": " + n.streamHint(in.Body.Stream))
			case err != nil:
				return nil, huma.Error503ServiceUnavailable(fmt.Sprintf("%v; %d were replayed before that, and the same request goes on", err, res.Replayed))
			}
			return &answer[deadletter.Result]{res}, nil
		})
}

// streamHint says which stream may have been meant.
func (n *Node) streamHint(name string) string {
	var names []string
	for _, s := range n.streams() {
		names = append(names, s.Schema.Stream)
	}
	return cmp.Or(schema.Suggest(name, names), "the streams are "+strings.Join(names, ", "))
}
