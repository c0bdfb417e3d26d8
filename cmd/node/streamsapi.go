package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// declareTimeout bounds the wait for SQL to take a declaration up.
const declareTimeout = time.Minute

// streams are those that are declared now, in weir.yaml and over HTTP.
func (n *Node) streams() []*schema.Stream { return *n.declaredStreams.Load() }

// registerStreams registers what changes streams. The declarations are those of
// weir.yaml, so they are read by what reads that: the bodies are taken as they are.
func (n *Node) registerStreams(api huma.API) {
	body := func(named bool) *huma.RequestBody {
		s := streamSchema(named)
		return &huma.RequestBody{Required: true, Description: "What stands under the stream's name in weir.yaml.",
			Content: map[string]*huma.MediaType{"application/json": {Schema: s}, "application/yaml": {Schema: s}}}
	}
	huma.Register(api, huma.Operation{OperationID: "make-stream", Method: http.MethodPost, Path: "/v1/streams", DefaultStatus: http.StatusCreated,
		Summary: "Make a stream", RequestBody: body(true), MaxBodyBytes: config.StreamSizeMax, SkipValidateBody: true, Errors: []int{409, 422}},
		func(ctx context.Context, in *struct{ RawBody []byte }) (*answer[StreamView], error) {
			name, declaration, err := takeName(in.RawBody)
			if err != nil {
				return nil, err
			}
			return n.putStream(ctx, name, declaration, true)
		})
	huma.Register(api, huma.Operation{OperationID: "put-stream", Method: http.MethodPut, Path: "/v1/streams/{name}",
		Summary: "Make a stream, or give one that was made so a new version", RequestBody: body(false), MaxBodyBytes: config.StreamSizeMax, SkipValidateBody: true, Errors: []int{409, 422}},
		func(ctx context.Context, in *struct {
			Name    string `path:"name"`
			RawBody []byte
		}) (*answer[StreamView], error) {
			return n.putStream(ctx, in.Name, in.RawBody, false)
		})
	huma.Register(api, huma.Operation{OperationID: "remove-stream", Method: http.MethodDelete, Path: "/v1/streams/{name}",
		Summary: "Remove a stream that was made over HTTP; its topic and records stay", Errors: []int{404, 409}},
		func(ctx context.Context, in *struct {
			Name string `path:"name"`
		}) (*struct{}, error) {
			return nil, n.removeStream(ctx, in.Name)
		})
}

// streamSchema describes a declaration by the keys of weir.yaml.
func streamSchema(named bool) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{}, AdditionalProperties: false}
	if named {
		s.Properties["name"] = &huma.Schema{Type: huma.TypeString, Description: "The stream's name, also of its SQL table."}
		s.Required = append(s.Required, "name")
	}
	for _, k := range config.StreamKeys() {
		s.Properties[k.Name] = &huma.Schema{Description: k.Doc + " Expects: " + k.Expects + "."}
		if k.Required {
			s.Required = append(s.Required, k.Name)
		}
	}
	return s
}

// takeName takes the member name out of a JSON object.
func takeName(body []byte) (name string, declaration []byte, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return "", nil, huma.Error422UnprocessableEntity("the body must be a JSON object with the stream's name and its declaration; to send YAML, PUT it to /v1/streams/NAME")
	}
	if err := json.Unmarshal(members["name"], &name); err != nil || name == "" {
		return "", nil, huma.Error422UnprocessableEntity("name: is missing: expected the stream's name", &huma.ErrorDetail{Location: "body.name", Message: "is missing"})
	}
	delete(members, "name")
	declaration, err = json.Marshal(members)
	return name, declaration, err
}

// isDeclared reports whether weir.yaml has a stream of that name.
func (n *Node) isDeclared(name string) bool {
	return slices.ContainsFunc(n.cfg.Streams, func(s *schema.Stream) bool { return s.Schema.Stream == name })
}

// putStream makes a stream what the declaration says, from now on and durably.
func (n *Node) putStream(ctx context.Context, name string, declaration []byte, fresh bool) (*answer[StreamView], error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := n.awaitSQL(ctx); err != nil {
		return nil, huma.Error503ServiceUnavailable(err.Error())
	}
	before, known := n.made.Streams[name]
	switch {
	case n.isDeclared(name):
		return nil, huma.Error409Conflict(name + " is declared in weir.yaml: change it there")
	case known && fresh:
		return nil, huma.Error409Conflict(fmt.Sprintf("there is a stream %s already: PUT /v1/streams/%[1]s gives it a new version", name))
	}
	at := slices.IndexFunc(n.streams(), func(s *schema.Stream) bool { return s.Schema.Stream == name })
	others := slices.DeleteFunc(slices.Clone(n.streams()), func(s *schema.Stream) bool { return s.Schema.Stream == name })
	s, err := n.cfg.ParseStream(name, declaration, others)
	if err != nil {
		return nil, streamError(name, err)
	}
	for _, d := range n.definitions() {
		if !d.List && strings.EqualFold(d.Name, name) {
			return nil, huma.Error409Conflict(name + " is the name of a table; SQL does not tell upper from lower case")
		}
	}
	next := slices.Clone(n.streams())
	if at < 0 {
		next = append(next, s)
	} else {
		next[at] = s
	}
	program, err := n.admits(next, s)
	if err != nil {
		return nil, streamError(name, err)
	}
	state := n.made.clone()
	if at >= 0 && n.streams()[at].Topic != s.Topic {
		state.guard(n.streams()[at], before.Declaration)
	}
	state.Streams[name] = madeStream{Name: name, Declaration: string(declaration), Since: time.Now().UTC()}
	if err := n.declare(ctx, next, program, state); err != nil {
		return nil, err
	}
	n.logger.Info("a stream was declared over HTTP", "stream", name, "topic", s.Topic, "version", n.version(name))
	return n.getStream(ctx, &struct {
		Name string `path:"name"`
	}{name})
}

// admits is the program of the rules once these streams are declared, or what is
// wrong with the one that is new among them.
func (n *Node) admits(streams []*schema.Stream, s *schema.Stream) (*rules.Program, error) {
	if _, err := decode.New(s, nil, decode.Options{}); err != nil {
		return nil, &schema.Problem{Field: "streams." + s.Schema.Stream, Message: err.Error()}
	}
	if err := n.versions().check([]*schema.Stream{s}).ErrOrNil(); err != nil {
		return nil, err
	}
	if err := n.history.Check(streams); err != nil {
		return nil, &schema.Problem{Field: "streams." + s.Schema.Stream, Message: err.Error()}
	}
	return n.programOver(streams)
}

// programOver is the program of the rules over other streams: the one that runs, where
// it reads none of those that differ.
func (n *Node) programOver(streams []*schema.Stream) (*rules.Program, error) {
	before := n.program.Load()
	next, err := rules.Compile(n.rules, n.catalog(streams))
	if err != nil {
		return nil, err
	}
	if next.ID() == before.ID() {
		return before, nil
	}
	next.Continue(before)
	return next, nil
}

func (n *Node) catalog(streams []*schema.Stream) rules.Catalog {
	c := rules.Catalog{Streams: streams}
	for i := range n.declared {
		c.Tables = append(c.Tables, n.declared[i].Definition)
	}
	return c
}

func (n *Node) removeStream(ctx context.Context, name string) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if err := n.awaitSQL(ctx); err != nil {
		return huma.Error503ServiceUnavailable(err.Error())
	}
	if n.isDeclared(name) {
		return huma.Error409Conflict(name + " is declared in weir.yaml: remove it there")
	}
	before, known := n.made.Streams[name]
	if !known {
		return huma.Error404NotFound(fmt.Sprintf("there is no stream %q: %s", name, n.streamHint(name)))
	}
	var named []string
	for _, r := range n.rules {
		if r.Stream == name {
			named = append(named, r.ID)
		}
	}
	if len(named) > 0 {
		return huma.Error409Conflict(fmt.Sprintf("the rules %s are of %s: remove them first, and reload", strings.Join(named, ", "), name))
	}
	state := n.made.clone()
	next := slices.Clone(n.streams())
	if at := slices.IndexFunc(next, func(s *schema.Stream) bool { return s.Schema.Stream == name }); at >= 0 {
		state.guard(next[at], before.Declaration)
		next = slices.Delete(next, at, at+1)
	}
	delete(state.Streams, name)
	program, err := n.programOver(next)
	if err != nil {
		return huma.Error409Conflict(fmt.Sprintf("rules need %s: remove them first, and reload: %v", name, err))
	}
	if err := n.declare(ctx, next, program, state); err != nil {
		return err
	}
	n.logger.Info("a stream was removed over HTTP", "stream", name)
	return nil
}

// declare makes streams and their program the ones in force. The file of made streams
// is the point of no return: before it nothing has changed but that a topic may have
// been made; what fails behind it takes effect with the next start at the latest.
func (n *Node) declare(ctx context.Context, streams []*schema.Stream, program *rules.Program, state *made) error {
	if err := n.makeStreamTopics(streams); err != nil {
		return huma.Error503ServiceUnavailable(err.Error())
	}
	// What is written from now on is protected, whoever reads it when.
	if err := n.protect(append(state.guarded(n.cfg, streams), streams...), n.definitionsWith()); err != nil {
		return huma.Error503ServiceUnavailable(err.Error())
	}
	if err := state.save(vfs.OS, n.cfg.DataDir); err != nil {
		err = errors.Join(err, n.protect(n.guardedStreams(), n.definitionsWith()))
		return huma.Error503ServiceUnavailable("the declaration could not be stored: " + err.Error())
	}
	n.made = state
	n.declaredStreams.Store(&streams)
	errs := []error{n.noteVersions(streams)}
	n.ingest.Declare(streams)
	n.replay.Declare(streams)
	errs = append(errs, n.decideBy(program, streams))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), declareTimeout)
	defer cancel()
	errs = append(errs, n.history.Declare(ctx, streams))
	if err := errors.Join(errs...); err != nil {
		n.logger.Error("a declaration is stored and could not take effect everywhere", "err", err)
		return huma.Error503ServiceUnavailable("the declaration is stored; it takes effect everywhere with a restart at the latest: " + err.Error())
	}
	return nil
}

// guardedStreams are the streams whose topics are protected.
func (n *Node) guardedStreams() []*schema.Stream {
	return append(n.made.guarded(n.cfg, n.streams()), n.streams()...)
}

// makeStreamTopics makes the topics of streams that are not there yet.
func (n *Node) makeStreamTopics(streams []*schema.Stream) error {
	for _, s := range streams {
		if _, ok := n.log.Topic(s.Topic); ok {
			continue
		}
		spec := commitlog.TopicSpec{Name: s.Topic, Partitions: s.Partitions, Configs: map[string]string{"retention.ms": cmp.Or(ownRetention[s.Topic], "-1")}}
		if _, err := n.log.CreateTopic(spec); err != nil {
			return fmt.Errorf("topic %s: %w", s.Topic, err)
		}
	}
	return nil
}

// streamError tells what is wrong with a declaration, field by field.
func streamError(name string, err error) error {
	var ps schema.Problems
	var p *schema.Problem
	switch {
	case errors.As(err, &ps):
	case errors.As(err, &p):
		ps = schema.Problems{p}
	default:
		return err
	}
	details := make([]error, len(ps))
	for i, p := range ps {
		text := p.Message
		if p.Hint != "" {
			text += " (" + p.Hint + ")"
		}
		if p.File != "" { // of a rule that does not go with it
			text = (&schema.Problem{File: p.File, Line: p.Line, Column: p.Column, Field: p.Field, Message: text}).Error()
		}
		location := "body"
		if rest, of := strings.CutPrefix(p.Field, "streams."+name); of && p.File == "" {
			location += rest
		}
		if p.File == "" && p.Line > 1 {
			text = fmt.Sprintf("line %d: %s", p.Line, text)
		}
		details[i] = &huma.ErrorDetail{Location: location, Message: text}
	}
	message := ps[0].Error()
	if len(ps) > 1 {
		message += fmt.Sprintf("; and %d more", len(ps)-1)
	}
	return huma.Error422UnprocessableEntity(message, details...)
}

// version is the number of a stream's newest version.
func (n *Node) version(name string) int {
	all := n.versions()[name]
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Version
}

// noteVersions notes the versions of the streams as they are declared now.
func (n *Node) noteVersions(streams []*schema.Stream) error {
	v := maps.Clone(n.versions())
	if !v.add(streams, time.Now()) {
		return nil
	}
	n.streamVersions.Store(&v)
	return v.save(vfs.OS, n.cfg.DataDir)
}

func (n *Node) versions() versions { return *n.streamVersions.Load() }
