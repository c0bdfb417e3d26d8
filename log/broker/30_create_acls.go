package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateAcls: each is refused with SECURITY_DISABLED, see DescribeAcls.
//
// Versions: 2 is flexible.

func createACLs(_ context.Context, c *conn, req *kmsg.CreateACLsRequest) kmsg.Response {
	resp := response[*kmsg.CreateACLsResponse](req)
	for range req.Creations {
		sr := kmsg.NewCreateACLsResponseResult()
		sr.ErrorCode, sr.ErrorMessage = c.srv.code(errNoAuthorizer), text(errNoAuthorizer)
		resp.Results = append(resp.Results, sr)
	}
	return resp
}
