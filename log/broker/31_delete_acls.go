package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteAcls: each filter is refused with SECURITY_DISABLED, see DescribeAcls.
//
// Versions: 2 is flexible.

func deleteACLs(_ context.Context, c *conn, req *kmsg.DeleteACLsRequest) kmsg.Response {
	resp := response[*kmsg.DeleteACLsResponse](req)
	for range req.Filters {
		sr := kmsg.NewDeleteACLsResponseResult()
		sr.ErrorCode, sr.ErrorMessage = c.srv.code(errNoAuthorizer), text(errNoAuthorizer)
		resp.Results = append(resp.Results, sr)
	}
	return resp
}
