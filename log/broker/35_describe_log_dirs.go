package broker

import (
	"context"
	"slices"

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
	for _, t := range c.srv.log.Topics() {
		want := func(int32) bool { return true }
		if req.Topics != nil {
			i := slices.IndexFunc(req.Topics, func(rt kmsg.DescribeLogDirsRequestTopic) bool { return rt.Topic == t.Name() })
			if i < 0 {
				continue
			}
			want = func(p int32) bool { return slices.Contains(req.Topics[i].Partitions, p) }
		}
		st := kmsg.NewDescribeLogDirsResponseDirTopic()
		st.Topic = t.Name()
		for _, p := range t.Partitions() {
			if !want(p.Index()) {
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
