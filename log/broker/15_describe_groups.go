package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups: state and members of classic groups.
//
// Behaviour: a group that does not exist is Dead, as is one of the consumer
// protocol, whoever is in it. Metadata and assignments are shown while the group is stable. A group that
// is named more than once is answered once.
//
// Versions: 3 has authorized operations, which are not computed, 4 static members,
// 5 is flexible, 6 says GROUP_ID_NOT_FOUND for what is Dead.

func describeGroups(_ context.Context, c *conn, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := response[*kmsg.DescribeGroupsResponse](req)
	for _, id := range distinctNames(req.Groups) {
		resp.Groups = append(resp.Groups, c.srv.describeGroup(id, req.Version))
	}
	return resp
}

func (s *Server) describeGroup(id string, version int16) kmsg.DescribeGroupsResponseGroup {
	sg := kmsg.NewDescribeGroupsResponseGroup()
	sg.Group, sg.AuthorizedOperations = id, noOperations
	c, err := s.groups.lock(id, false)
	switch {
	case errors.Is(err, errNoGroup):
		return s.deadGroup(sg, version, fmt.Sprintf("group %s not found", id))
	case err != nil:
		sg.ErrorCode = s.code(err)
		return sg
	}
	defer c.mu.Unlock()
	if c.consumer != nil {
		return s.deadGroup(sg, version, fmt.Sprintf("group %s is not a classic group", id))
	}
	sg.State = c.state().String()
	if c.classic == nil {
		return sg
	}
	sg.ProtocolType = c.classic.ProtocolType()
	protocol, members := c.classic.View()
	sg.Protocol = protocol
	for _, m := range members {
		sm := kmsg.NewDescribeGroupsResponseGroupMember()
		sm.MemberID, sm.InstanceID, sm.ClientID, sm.ClientHost = m.ID, m.Instance, m.ClientID, m.ClientHost
		sm.ProtocolMetadata, sm.MemberAssignment = m.Metadata, m.Assignment
		sg.Members = append(sg.Members, sm)
	}
	return sg
}

func (s *Server) deadGroup(sg kmsg.DescribeGroupsResponseGroup, version int16, why string) kmsg.DescribeGroupsResponseGroup {
	sg.State = "Dead"
	if version >= 6 {
		err := refuse(kerr.GroupIDNotFound, why)
		sg.ErrorCode, sg.ErrorMessage = s.code(err), text(err)
	}
	return sg
}
