package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// IncrementalAlterConfigs: change single settings of topics, durably, before the
// answer (KIP-339).
//
// Behaviour: SET gives a setting a value, DELETE its default; APPEND and SUBTRACT
// change lists (cleanup.policy), starting from the default where nothing is set. All
// changes of a resource are made or none. Otherwise as AlterConfigs.
//
// Versions: 1 is flexible.

func incrementalAlterConfigs(_ context.Context, c *conn, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := response[*kmsg.IncrementalAlterConfigsResponse](req)
	named := map[resource]int{}
	for i := range req.Resources {
		named[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	for i := range req.Resources {
		rr := &req.Resources[i]
		r := resource{rr.ResourceType, rr.ResourceName}
		err := r.once(named[r])
		if err == nil {
			err = c.srv.changeConfigs(r, req.ValidateOnly, func(set map[string]string) (map[string]string, error) { return c.srv.changed(set, rr.Configs) })
		}
		sr := kmsg.NewIncrementalAlterConfigsResponseResource()
		sr.ResourceType, sr.ResourceName = r.kind, r.name
		sr.ErrorCode, sr.ErrorMessage = c.srv.code(err), text(err)
		resp.Resources = append(resp.Resources, sr)
	}
	return resp
}

// changed makes the changes of list to set, which it may use up.
func (s *Server) changed(set map[string]string, list []kmsg.IncrementalAlterConfigsRequestResourceConfig) (map[string]string, error) {
	seen := make(map[string]bool, len(list))
	for i := range list {
		kv := &list[i]
		if seen[kv.Name] {
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("the request names config %s more than once", kv.Name))
		}
		seen[kv.Name] = true
		if kv.Op == kmsg.IncrementalAlterConfigOpDelete {
			if err := s.knownConfig(kv.Name); err != nil {
				return nil, err
			}
			delete(set, kv.Name)
			continue
		}
		if kv.Value == nil {
			return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("config %s: null is not a value", kv.Name))
		}
		if kv.Op == kmsg.IncrementalAlterConfigOpSet {
			set[kv.Name] = *kv.Value
			continue
		}
		value, err := s.changedList(set, kv)
		if err != nil {
			return nil, err
		}
		set[kv.Name] = value
	}
	return set, nil
}

// changedList is the value of a list after APPEND or SUBTRACT.
func (s *Server) changedList(set map[string]string, kv *kmsg.IncrementalAlterConfigsRequestResourceConfig) (string, error) {
	if err := s.knownConfig(kv.Name); err != nil {
		return "", err
	}
	d := s.configDef(kv.Name)
	if d.Type != commitlog.ConfigList {
		return "", refuse(kerr.InvalidConfig, fmt.Sprintf("config %s is not a list, so nothing can be appended to or subtracted from it", kv.Name))
	}
	now, ok := set[kv.Name]
	if !ok {
		now = d.Default
	}
	list, change := splitList(now), splitList(*kv.Value)
	switch kv.Op {
	case kmsg.IncrementalAlterConfigOpAppend:
		for _, one := range change {
			if !slices.Contains(list, one) {
				list = append(list, one)
			}
		}
	case kmsg.IncrementalAlterConfigOpSubtract:
		list = slices.DeleteFunc(list, func(one string) bool { return slices.Contains(change, one) })
	default:
		return "", refuse(kerr.InvalidRequest, fmt.Sprintf("operation %d on config %s; expected 0 (set), 1 (delete), 2 (append) or 3 (subtract)", kv.Op, kv.Name))
	}
	return strings.Join(list, ","), nil
}

func splitList(s string) []string {
	var list []string
	for one := range strings.SplitSeq(s, ",") {
		if one = strings.TrimSpace(one); one != "" {
			list = append(list, one)
		}
	}
	return list
}

// configDef is the topic config of that name, nil where there is none.
func (s *Server) configDef(name string) *commitlog.ConfigDef {
	defs := s.log.ConfigDefs()
	if i := slices.IndexFunc(defs, func(d commitlog.ConfigDef) bool { return d.Name == name }); i >= 0 {
		return &defs[i]
	}
	return nil
}

func (s *Server) knownConfig(name string) error {
	if s.configDef(name) == nil {
		return refuse(kerr.InvalidConfig, fmt.Sprintf("no topic config is named %q", name))
	}
	return nil
}
