package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: the cluster's id and brokers.
//
// Behaviour: brokers only; asking for controllers is UNSUPPORTED_ENDPOINT_TYPE.
//
// Versions: all are flexible; 1 brought endpoint types, 2 fenced brokers, of which
// there are none.

func describeCluster(_ context.Context, c *conn, req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := response[*kmsg.DescribeClusterResponse](req)
	resp.ClusterAuthorizedOperations = noOperations
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	resp.EndpointType = 1
	if req.Version >= 1 && req.EndpointType != 1 {
		err := refuse(kerr.UnsupportedEndpointType, "only the brokers' endpoint is served")
		resp.ErrorCode, resp.ErrorMessage = c.srv.code(err), text(err)
		return resp
	}
	resp.ClusterID, resp.ControllerID = c.srv.opt.ClusterID, nodeID
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = nodeID
	b.Host, b.Port = c.advertised()
	resp.Brokers = append(resp.Brokers, b)
	return resp
}
