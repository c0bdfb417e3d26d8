package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Consumer is a group of the consumer protocol (KIP-848).
type Consumer struct{}

func NewConsumer(cfg *Config, now time.Time) *Consumer                   { return &Consumer{} }
func (g *Consumer) State() State                                         { return Empty }
func (g *Consumer) Members() int                                         { return 0 }
func (g *Consumer) Deadline() (time.Time, bool)                          { return time.Time{}, false }
func (g *Consumer) Tick(now time.Time) ConsumerEffects                   { return ConsumerEffects{} }
func (g *Consumer) Forgotten(string) []Record                            { return nil }
func (g *Consumer) Subscribed(topic string) bool                         { return false }
func (g *Consumer) Restore(*LoadedConsumer)                              {}
func (g *Consumer) Restored(now time.Time)                               {}
func (g *Consumer) Epoch() int32                                         { return -1 }
func (g *Consumer) MayCommit(time.Time, Caller, bool, int16) *kerr.Error { return nil }

type ConsumerEffects struct{}

func (g *Consumer) MayFetch(member *string, epoch int32) *kerr.Error { return nil }
