package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs: the size of each partition.
//
// Behaviour: one directory, the log's; null topics are all. Topics and partitions
// that do not exist are left out, as Kafka does. Total and usable bytes are those of
// the volume that the directory is on, -1 where it does not tell.
//
// Versions: 2 is flexible, 3 brought a top-level error, 4 total and usable bytes.

func describeLogDirs(_ context.Context, c *conn, req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := response[*kmsg.DescribeLogDirsResponse](req)
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = c.srv.opt.LogDir
	dir.TotalBytes, dir.UsableBytes = -1, -1
	if u, err := c.srv.log.Usage(); err == nil {
		dir.TotalBytes, dir.UsableBytes = u.Total, u.Free
	}
	asked := map[string]map[int32]bool{}
	for i := range req.Topics {
		asked[req.Topics[i].Topic] = setOf(req.Topics[i].Partitions)
	}
	for _, t := range c.srv.log.Topics() {
		want := asked[t.Name()]
		if req.Topics != nil && want == nil {
			continue
		}
		st := kmsg.NewDescribeLogDirsResponseDirTopic()
		st.Topic = t.Name()
		for _, p := range t.Partitions() {
			if req.Topics != nil && !want[p.Index()] {
				continue
			}
			sp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			sp.Partition, sp.Size = p.Index(), p.Size()
			st.Partitions = append(st.Partitions, sp)
		}
		dir.Topics = append(dir.Topics, st)
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}
