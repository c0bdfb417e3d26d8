package layout

import "github.com/twmb/franz-go/pkg/kmsg"

// Request is the layout of requests with that API key, nil where there is none
// here. Produce has a decoder of its own, in log/broker.
func Request(key int16) *Message { return requests[kmsg.Key(key)] }

// OffsetDelete has no flexible version.
var requests = map[kmsg.Key]*Message{
	kmsg.Fetch: message(12, "int32@-14 int32 int32 int32 int8 int32 int32 "+
		"[string@-12 uuid@13+ [int32 int32 int64 int32 int64 int32 0=uuid 1=int64]] "+
		"[string@-12 uuid@13+ []int32] string 0=string? 1={int32 int64}"),
	kmsg.ListOffsets:             message(6, "int32 int8 [string [int32 int32 int64]] int32@10+"),
	kmsg.Metadata:                message(9, "[uuid@10+ string@-9 string?@10+] bool bool@-10 bool"),
	kmsg.OffsetCommit:            message(8, "string int32 string string? [string@-9 uuid@10+ [int32 int64 int32 string?]]"),
	kmsg.OffsetFetch:             message(6, "string@-7 [string []int32]@-7 [string string?@9+ int32@9+ [string@-9 uuid@10+ []int32]]@8+ bool@7+"),
	kmsg.FindCoordinator:         message(3, "string@-3 int8 []string@4+"),
	kmsg.JoinGroup:               message(6, "string int32 int32 string string? string [string bytes] string?@8+"),
	kmsg.Heartbeat:               message(4, "string int32 string string?"),
	kmsg.LeaveGroup:              message(4, "string [string string? string?@5+]"),
	kmsg.SyncGroup:               message(4, "string int32 string string? string?@5+ string?@5+ [string bytes]"),
	kmsg.DescribeGroups:          message(5, "[]string bool"),
	kmsg.ListGroups:              message(3, "[]string@4+ []string@5+"),
	kmsg.ApiVersions:             message(3, "string string string?@5+ int32@5+"),
	kmsg.CreateTopics:            message(5, "[string int32 int16 [int32 []int32] [string string?]] int32 bool"),
	kmsg.DeleteTopics:            message(4, "[]string@-5 [string? uuid]@6+ int32"),
	kmsg.DeleteRecords:           message(2, "[string [int32 int64]] int32"),
	kmsg.InitProducerID:          message(2, "string? int32 int64@3+ int16@3+"),
	kmsg.OffsetForLeaderEpoch:    message(4, "int32 [string [int32 int32 int32]]"),
	kmsg.AddPartitionsToTxn:      message(3, "string@-3 int64@-3 int16@-3 [string []int32]@-3 [string int64 int16 bool [string []int32]]@4+"),
	kmsg.AddOffsetsToTxn:         message(3, "string int64 int16 string"),
	kmsg.EndTxn:                  message(3, "string int64 int16 bool"),
	kmsg.TxnOffsetCommit:         message(3, "string string int64 int16 int32 string string? [string@-5 uuid@6+ [int32 int64 int32 string?]]"),
	kmsg.DescribeACLs:            message(2, "int8 string? int8 string? string? int8 int8"),
	kmsg.CreateACLs:              message(2, "[int8 string int8 string string int8 int8]"),
	kmsg.DeleteACLs:              message(2, "[int8 string? int8 string? string? int8 int8]"),
	kmsg.DescribeConfigs:         message(4, "[int8 string []string] bool bool"),
	kmsg.AlterConfigs:            message(2, "[int8 string [string string?]] bool"),
	kmsg.DescribeLogDirs:         message(2, "[string []int32]"),
	kmsg.CreatePartitions:        message(2, "[string int32 [[]int32]] int32 bool"),
	kmsg.DeleteGroups:            message(2, "[]string"),
	kmsg.IncrementalAlterConfigs: message(1, "[int8 string [string int8 string?]] bool"),
	kmsg.DescribeCluster:         message(0, "bool int8@1+ bool@2+"),
	kmsg.DescribeProducers:       message(0, "[string []int32]"),
	kmsg.DescribeTransactions:    message(0, "[]string"),
	kmsg.ListTransactions:        message(0, "[]string []int64 int64@1+ string?@2+"),
	kmsg.ConsumerGroupHeartbeat:  message(0, "string string int32 string? string? int32 []string string?@1+ string? [uuid []int32]"),
	kmsg.ConsumerGroupDescribe:   message(0, "[]string bool"),
}
