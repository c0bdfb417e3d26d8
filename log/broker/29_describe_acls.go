package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeAcls: nothing to describe.
//
// Behaviour: there is no authorizer, so every request is SECURITY_DISABLED, as from
// an Apache Kafka broker without one: admin clients then say that ACLs are off
// rather than that the broker is too old. What clients may write is Weir's own
// rule, see MayWrite.
//
// Versions: 2 is flexible.

// errNoAuthorizer is what each of the ACL keys answers.
var errNoAuthorizer = refuse(kerr.SecurityDisabled, "no authorizer is configured: there are no ACLs")

func describeACLs(_ context.Context, c *conn, req *kmsg.DescribeACLsRequest) kmsg.Response {
	resp := response[*kmsg.DescribeACLsResponse](req)
	resp.ErrorCode, resp.ErrorMessage = c.srv.code(errNoAuthorizer), text(errNoAuthorizer)
	return resp
}
