package broker

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// AlterConfigs: replace all settings of topics, durably, before the answer: what
// the request does not name goes back to its default. IncrementalAlterConfigs
// changes single ones, and is what current clients use.
//
// Behaviour: a resource or a setting that is named twice is INVALID_REQUEST and not
// changed. This broker's own settings are flags and keys of weir.yaml, not for
// clients to change.
//
// Versions: 2 is flexible.

func alterConfigs(_ context.Context, c *conn, req *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := response[*kmsg.AlterConfigsResponse](req)
	named := map[resource]int{}
	for i := range req.Resources {
		named[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		r := resource{rr.ResourceType, rr.ResourceName}
		err := r.once(named[r])
		if err == nil {
			err = c.srv.changeConfigs(r, req.ValidateOnly, func(map[string]string) (map[string]string, error) { return replaced(rr.Configs) })
		}
		sr := kmsg.NewAlterConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = r.kind, r.name
		sr.ErrorCode, sr.ErrorMessage = c.srv.code(err), text(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp
}

// replaced is the settings that a request lists.
func replaced(list []kmsg.AlterConfigsRequestResourceConfig) (map[string]string, error) {
	set := make(map[string]string, len(list))
	for _, kv := range list {
		if _, twice := set[kv.Name]; twice {
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("the request names config %s more than once", kv.Name))
		}
		if kv.Value == nil {
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("config %s: null is not a value", kv.Name))
		}
		set[kv.Name] = *kv.Value
	}
	return set, nil
}

// resource is what has settings.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// once refuses a resource that a request names more than once.
func (r resource) once(times int) error {
	if times > 1 {
		return refuse(kerr.InvalidRequest, fmt.Sprintf("the request names %s %q more than once", r.kind, r.name))
	}
	return nil
}

// changeConfigs replaces the settings of r by what change makes of them, or only
// says whether it could. One change is made after another, so none is lost.
func (s *Server) changeConfigs(r resource, validateOnly bool, change func(map[string]string) (map[string]string, error)) error {
	if r.kind != kmsg.ConfigResourceTypeTopic {
		return refuse(kerr.InvalidRequest, fmt.Sprintf("only settings of topics can be changed, not of a %s; those of weir are flags and keys of weir.yaml", r.kind))
	}
	s.configs.Lock()
	defer s.configs.Unlock()
	t, err := s.find(r.name, [16]byte{}, false)
	if err != nil {
		return err
	}
	if !s.opt.MayWrite(r.name, OpAlter) {
		return notForClients(r.name, OpAlter)
	}
	before := t.Configs()
	if before == nil {
		before = map[string]string{}
	}
	after, err := change(before)
	if err != nil {
		return err
	}
	if err := commitlog.CheckConfigs(after); err != nil || validateOnly {
		return err
	}
	if err := s.log.SetConfigs(r.name, after); err != nil {
		return err
	}
	s.opt.Logger.Info("topic settings changed", "topic", r.name, "configs", after)
	return nil
}
