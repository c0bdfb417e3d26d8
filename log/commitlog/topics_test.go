package commitlog

import (
	"errors"
	"testing"

	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestCreateTopicsTogether: topics that are made together are all there after a power
// failure, or, where one of them cannot be made, none is.
func TestCreateTopicsTogether(t *testing.T) {
	seed := seeds.One(t)
	fsys := vfs.NewMem(seed)
	l := mustOpen(t, "data", testOptions(fsys))
	defer l.Close()
	good := []TopicSpec{{Name: "a", Partitions: 2}, {Name: "b", Partitions: 1, Configs: map[string]string{"cleanup.policy": "compact"}}}
	for _, bad := range []struct {
		spec TopicSpec
		want error
	}{
		{TopicSpec{Name: "a", Partitions: 1}, ErrTopicExists}, // twice in one call
		{TopicSpec{Name: "c"}, ErrInvalidPartitions},
		{TopicSpec{Name: "no/name", Partitions: 1}, ErrInvalidTopic},
	} {
		if _, err := l.CreateTopics(append(good[:2:2], bad.spec)); !errors.Is(err, bad.want) {
			t.Errorf("%v: %v, expected %v", bad.spec, err, bad.want)
		}
		if n := len(l.Topics()); n != 0 {
			t.Fatalf("%v: %d topics were made", bad.spec, n)
		}
	}
	made, err := l.CreateTopics(good)
	if err != nil {
		t.Fatal(err)
	}
	after := mustOpen(t, "data", testOptions(fsys.CrashClone()))
	defer after.Close()
	for i, topic := range made {
		found, ok := after.Topic(good[i].Name)
		if !ok || found.ID() != topic.ID() || len(found.Partitions()) != int(good[i].Partitions) || len(found.Configs()) != len(good[i].Configs) {
			t.Errorf("topic %s after a power failure: %v", good[i].Name, found)
		}
	}
}
