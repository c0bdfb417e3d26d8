package broker

import (
	"context"
	"time"

	"github.com/weirstream/weir/log/group"
)

func (g *groups) applyConsumer(ctx context.Context, c *cell, now time.Time, eff group.ConsumerEffects) {
}
