package group

// LoadedConsumer is a record of a group of the consumer protocol.
type LoadedConsumer struct{}

func (l *Loaded) loadConsumer(kind uint16, key, value []byte) error { return nil }
