package broker

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups: the groups there are.
//
// Behaviour: groups that only have offsets are Empty and of no protocol type.
// Filters are compared without regard to case, and one that names nothing known
// matches nothing.
//
// Versions: 3 is flexible, 4 has states and filters by them, 5 types: classic and
// consumer.

func listGroups(_ context.Context, c *conn, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := response[*kmsg.ListGroupsResponse](req)
	list, err := c.srv.groups.all()
	resp.ErrorCode = c.srv.code(err)
	states, types := setOf(folded(req.StatesFilter)), setOf(folded(req.TypesFilter))
	for _, one := range list {
		sg := kmsg.NewListGroupsResponseGroup()
		one.mu.Lock()
		gone := one.gone
		sg.Group, sg.GroupState, sg.GroupType = one.id, one.state().String(), "classic"
		switch {
		case one.consumer != nil:
			sg.GroupType, sg.ProtocolType = "consumer", "consumer"
		case one.classic != nil:
			sg.ProtocolType = one.classic.ProtocolType()
		}
		one.mu.Unlock()
		if !gone && matches(states, sg.GroupState) && matches(types, sg.GroupType) {
			resp.Groups = append(resp.Groups, sg)
		}
	}
	return resp
}

// folded is a list in lower case.
func folded(list []string) []string {
	out := make([]string, len(list))
	for i, one := range list {
		out[i] = strings.ToLower(one)
	}
	return out
}

// matches reports whether a filter, where there is one, has the value.
func matches(filter map[string]bool, value string) bool {
	return len(filter) == 0 || filter[strings.ToLower(value)]
}
