package node

import (
	"context"
	"fmt"
	"net/http"

	"github.com/weirstream/weir/ingest/httpin"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// openIngest makes what takes events in over HTTP.
func (n *Node) openIngest() (err error) {
	n.ingest, err = httpin.New(context.Background(), n.cfg.Streams, sink.NewLocal(n.log), httpin.Options{
		Open: n.openRange, OffsetForTime: n.offsetForTime, Transform: n.transform(), Registerer: n.registry, Logger: n.logger.With("part", "http"),
	})
	return err
}

// withIngest sends bodies of events past the limit on other requests' bodies.
func (n *Node) withIngest(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	mux.Handle(httpin.Pattern, n.ingest)
	return mux
}

// openRange is openSource that ends before the offset to.
func (n *Node) openRange(_ context.Context, topic string, partition int32, from, to int64) (source.Source, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return nil, fmt.Errorf("%s[%d]: %w", topic, partition, err)
	}
	return source.NewPartition(p, source.Options{From: max(from, p.Start()), To: to}), nil
}

func (n *Node) offsetForTime(topic string, partition int32, ms int64) (int64, error) {
	p, err := n.log.Partition(topic, partition)
	if err != nil {
		return 0, err
	}
	offset, _, err := p.OffsetForTime(ms)
	return offset, err
}
