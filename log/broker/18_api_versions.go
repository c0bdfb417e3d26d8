package broker

import (
	"context"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: which keys and versions are served.
//
// Behaviour: the table of keys.go. A version that is not served is answered with
// version 0, error UNSUPPORTED_VERSION and the versions of this key, so that the
// client can ask again (KIP-511). The response header is never flexible.
//
// The finalized feature transaction.version 2 says that Produce 12, EndTxn 5 and
// TxnOffsetCommit 5 work as KIP-890 has them: clients use the newer protocol only
// then.
//
// Versions: 3 is flexible and names the client's software, which must look like a
// name; 5 may say which cluster and node the client believes it talks to.

// softwareName is what KIP-511 allows.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func apiVersions(_ context.Context, c *conn, req *kmsg.ApiVersionsRequest) kmsg.Response {
	resp := response[*kmsg.ApiVersionsResponse](req)
	if req.Version >= 3 && !(softwareName.MatchString(req.ClientSoftwareName) && softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp.ErrorCode = c.srv.code(kerr.InvalidRequest)
		return resp
	}
	if req.Version >= 5 && (req.ClusterID != nil && *req.ClusterID != c.srv.opt.ClusterID || req.NodeID >= 0 && req.NodeID != nodeID) {
		resp.ErrorCode = c.srv.code(kerr.RebootstrapRequired)
		return resp
	}
	for _, a := range c.srv.keys {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	slices.SortFunc(resp.ApiKeys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey) - int(b.ApiKey) })
	if req.Version >= 3 {
		c.srv.features(resp)
	}
	return resp
}

// features are the protocols that a client may use only where the whole cluster
// speaks them.
func (s *Server) features(resp *kmsg.ApiVersionsResponse) {
	add := func(name string, level int16) {
		f := kmsg.NewApiVersionsResponseFinalizedFeature()
		f.Name, f.MinVersionLevel, f.MaxVersionLevel = name, level, level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
		can := kmsg.NewApiVersionsResponseSupportedFeature()
		can.Name, can.MinVersion, can.MaxVersion = name, 0, level
		resp.SupportedFeatures = append(resp.SupportedFeatures, can)
	}
	if s.keys[68] != nil {
		add("group.version", 1)
	}
	add("transaction.version", 2)
	resp.FinalizedFeaturesEpoch = 1
}

// unsupportedApiVersions is the answer to a version that is not served.
func unsupportedApiVersions(a *api) answer {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
	resp.ApiKeys = append(resp.ApiKeys, k)
	return message{resp}
}
