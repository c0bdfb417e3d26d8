package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/dashboards/console"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/httpin"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/rules"
)

// bodyMax bounds a request's body; the longest sensible one is a query.
const bodyMax = 1 << 20

// webServer is the HTTP face: console, REST, metrics, health.
func (n *Node) webServer() *http.Server {
	mux, large := http.NewServeMux(), http.NewServeMux()
	mux.Handle("/", otherMethods(console.Handler(), mux, large))
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{Registry: n.registry, ErrorLog: promLog{n.logger}}))
	mux.HandleFunc("GET /-/healthy", n.serveHealthy)
	mux.HandleFunc("GET /-/ready", n.serveReady)
	mux.HandleFunc("POST /-/reload", n.serveReload)
	mux.HandleFunc("GET /v1/live", n.serveLive)

	conf := huma.DefaultConfig("Weir", n.opts.Version)
	conf.OpenAPIPath = "/v1/openapi"
	conf.DocsPath = "" // its page would load scripts from outside
	conf.SchemasPath = ""
	conf.CreateHooks = nil // no $schema member in the answers
	conf.Transformers = []huma.Transformer{sayWhat}
	api := humago.New(mux, conf)
	n.registerAPI(api)
	// Bodies of events and of CSV files may be larger than others.
	large.Handle("/", http.MaxBytesHandler(mux, bodyMax))
	large.Handle(httpin.Pattern, n.ingest)
	n.serveEntries(large)
	return &http.Server{
		Handler:           sameOrigin(large),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
}

// sayWhat puts into the detail of an error what huma says beside it alone.
func sayWhat(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok || m.Detail != "validation failed" || len(m.Errors) == 0 {
		return v, nil
	}
	first := m.Errors[0]
	m.Detail = first.Message
	if first.Location != "" {
		m.Detail = first.Location + ": " + first.Message
	}
	if m.Status == http.StatusUnsupportedMediaType {
		m.Detail = "the content type must be application/json: " + first.Message
	}
	return m, nil
}

// otherMethods answers requests for a path of ways with a method that it does not have.
func otherMethods(next http.Handler, ways ...*http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			if slices.ContainsFunc(ways, func(mux *http.ServeMux) bool {
				_, pattern := mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL})
				return strings.HasPrefix(pattern, method+" ")
			}) {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		answerError(w, huma.Error405MethodNotAllowed(fmt.Sprintf("%s takes %s, not %s", r.URL.Path, strings.Join(allowed, " and "), r.Method)))
	})
}

// sameOrigin refuses requests that another site's page makes a browser send.
func sameOrigin(next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(next)
}

// serveHealthy says that the process works. What keeps a part of it from its work
// is named and no failure: a restart would not mend it, and the rest works.
func (n *Node) serveHealthy(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "healthy")
	for _, line := range n.troubles() {
		fmt.Fprintln(w, "but", line)
	}
}

func (n *Node) serveReady(w http.ResponseWriter, _ *http.Request) {
	if n.draining.Load() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-n.ready:
		fmt.Fprintln(w, "ready")
		if !n.sqlIsOpen() {
			fmt.Fprintln(w, "but queries wait: the SQL database is being opened")
		}
	default:
		http.Error(w, "starting", http.StatusServiceUnavailable)
	}
}

// RuleView is a rule, what it does, and its counters since the start or since its
// condition changed.
type RuleView struct {
	ID          string     `json:"id"`
	Stream      string     `json:"stream"`
	When        string     `json:"when"`
	Action      string     `json:"action"`
	Severity    string     `json:"severity"`
	Mode        string     `json:"mode"`
	Score       float64    `json:"score"`
	Message     string     `json:"message"`
	Description string     `json:"description,omitempty"`
	File        string     `json:"file"`
	Line        int        `json:"line"`
	Evaluated   int64      `json:"evaluated"`
	Fired       int64      `json:"fired"`
	NoData      int64      `json:"no_data"`
	Errors      int64      `json:"errors"`
	LastError   string     `json:"last_error,omitempty"`
	LastFired   *time.Time `json:"last_fired" doc:"Event time of the last event on which it fired."`

	State   string       `json:"state" enum:"active,warming,failing,off" doc:"warming: its windows are made from the log, and what was declared under its id before, if anything, decides; failing: it had errors in the last minute, or its stream is not decided."`
	Since   *time.Time   `json:"since" doc:"When it was declared as it is."`
	Warming *WarmingView `json:"warming,omitempty" doc:"How far its windows are."`
	Trouble string       `json:"trouble,omitempty" doc:"Why it is failing, or why its windows could not be made: that is tried again."`
}

// Overview is what the console's first page shows.
type Overview struct {
	Version string       `json:"version"`
	Started time.Time    `json:"started"`
	Program string       `json:"program" doc:"Hash of the rule set in force."`
	Trouble []string     `json:"trouble" doc:"What keeps parts of the node from their work: damaged partitions, streams that are not decided."`
	Streams []StreamView `json:"streams"`
	Rules   []RuleView   `json:"rules"`
	Keyed   []KeyedView  `json:"keyed"`
	Alerts  struct {
		Total     int64 `json:"total" doc:"In weir.alerts."`
		PerMinute int64 `json:"per_minute"`
	} `json:"alerts"`
	Decisions struct {
		Total int64 `json:"total" doc:"In weir.decisions."`
	} `json:"decisions"`
	Deliveries struct {
		Delivered int64 `json:"delivered"`
		Retrying  int64 `json:"retrying"`
		Failed    int64 `json:"failed"`
	} `json:"deliveries"`
	SQL struct {
		Lag       int64 `json:"lag" doc:"Records not yet in SQL."`
		AgeMillis int64 `json:"age_ms" doc:"0 where there are none; else the time since the newest record that is in SQL, at its worst."`
	} `json:"sql"`
	Log struct {
		Bytes  int64 `json:"bytes"`
		Topics int   `json:"topics"`
	} `json:"log"`
}

// AlertView is an alert with the attempts to deliver it.
type AlertView struct {
	ID         string          `json:"id"`
	Time       time.Time       `json:"time"`
	Rule       string          `json:"rule"`
	Stream     string          `json:"stream"`
	Key        string          `json:"key"`
	Severity   string          `json:"severity"`
	Score      float64         `json:"score"`
	Action     string          `json:"action"`
	Message    string          `json:"message"`
	Values     json.RawMessage `json:"values" doc:"The values the rule rested on, by the expression that names them."`
	Topic      string          `json:"topic"`
	Partition  int32           `json:"partition"`
	Offset     int64           `json:"offset"`
	Deliveries []DeliveryView  `json:"deliveries"`
}

// DeliveryView is one attempt to deliver an alert.
type DeliveryView struct {
	Time     time.Time `json:"time"`
	Receiver string    `json:"receiver"`
	Attempt  int64     `json:"attempt"`
	Outcome  string    `json:"outcome" enum:"delivered,retry,failed"`
	Status   int64     `json:"status" doc:"Of the HTTP answer; 0 where there was none."`
	Error    string    `json:"error,omitempty"`
}

type answer[T any] struct{ Body T }

func (n *Node) registerAPI(api huma.API) {
	get := func(path, id, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}
	}
	huma.Register(api, get("/v1/overview", "overview", "Rates, streams, rules and totals"),
		func(context.Context, *struct{}) (*answer[Overview], error) {
			return &answer[Overview]{n.overview()}, nil
		})
	huma.Register(api, get("/v1/streams", "list-streams", "All streams"),
		func(context.Context, *struct{}) (*answer[[]StreamView], error) {
			return &answer[[]StreamView]{n.streamViews()}, nil
		})
	huma.Register(api, get("/v1/streams/{name}", "get-stream", "One stream"), n.getStream)
	huma.Register(api, get("/v1/rules", "list-rules", "All rules"),
		func(context.Context, *struct{}) (*answer[[]RuleView], error) {
			return &answer[[]RuleView]{n.ruleViews()}, nil
		})
	n.registerReload(api)
	n.registerKeyed(api)
	n.registerRemoveKeyed(api)
	n.registerOperators(api)
	n.registerReplay(api)
	n.registerVersions(api)
	n.registerStreams(api)
	huma.Register(api, get("/v1/alerts", "list-alerts", "Alerts, newest first"), n.listAlerts)
	huma.Register(api, huma.Operation{OperationID: "query", Method: http.MethodPost, Path: "/v1/sql", Summary: "Run a query"}, n.runQuery)
	n.registerErase(api)
	n.registerTables(api)
}

func (n *Node) getStream(_ context.Context, in *struct {
	Name string `path:"name"`
}) (*answer[StreamView], error) {
	var names []string
	for _, s := range n.streamViews() {
		if s.Name == in.Name {
			return &answer[StreamView]{s}, nil
		}
		names = append(names, s.Name)
	}
	hint := schema.Suggest(in.Name, names)
	if hint == "" {
		hint = "the streams are " + strings.Join(names, ", ")
	}
	return nil, huma.Error404NotFound(fmt.Sprintf("there is no stream %q: %s", in.Name, hint))
}

func (n *Node) ruleViews() []RuleView {
	program := n.program.Load()
	status, since := program.Rules(), n.programs.since(program.ID())
	states := n.ruleStates(program, status)
	out := make([]RuleView, 0, len(status))
	for i := range status {
		v, st := ruleView(&status[i]), states[status[i].ID]
		v.State, v.Warming, v.Trouble = st.state, st.warming, st.trouble
		if at, ok := since[v.ID]; ok {
			v.Since = &at
		}
		out = append(out, v)
	}
	return out
}

func ruleView(s *rules.RuleStatus) RuleView {
	r := &s.Rule
	return RuleView{
		ID: r.ID, Stream: r.Stream, When: r.When, Action: r.Action, Severity: r.Severity, Mode: r.Mode, Score: r.Score,
		Message: r.Message, Description: r.Description, File: r.File, Line: r.Line,
		Evaluated: s.Evaluated, Fired: s.Fired, NoData: s.NoData, Errors: s.Errors, LastError: s.LastError, LastFired: timeOrNil(s.LastFired),
	}
}

func (n *Node) streamViews() []StreamView {
	out := make([]StreamView, 0, len(n.streams()))
	index := map[string]int{}
	for _, s := range n.streams() {
		v := streamView(s)
		v.Declared, v.Version = "api", n.version(v.Name)
		if n.isDeclared(v.Name) {
			v.Declared = "weir.yaml"
		}
		start, end, err := n.extent(s.Topic)
		if err == nil {
			v.Events = end - start
		}
		v.EventsPerSecond = n.desk.rate(v.Name)
		if t, ok := n.log.Topic(s.Topic); ok {
			v.Partitions = len(t.Partitions())
			for _, p := range t.Partitions() {
				v.PinnedBytes += p.PinnedBytes()
			}
		}
		index[s.Topic] = len(out)
		out = append(out, v)
	}
	// A stream's watermark is the least of its partitions' that have one.
	marks := make([]event.Time, len(out))
	for i := range marks {
		marks[i] = event.MinTime
	}
	for _, sh := range n.engine.Status() {
		i, ok := index[sh.Topic]
		if !ok {
			continue
		}
		v := &out[i]
		if hw, err := n.highWatermark(sh.Topic, sh.Partition); err == nil {
			v.Lag += max(0, hw-sh.Cursor)
		}
		v.Late += sh.Late
		v.DeadLetters += sh.DeadLetters
		v.Decisions += sh.Decisions
		v.Alerts += sh.Alerts
		if sh.Watermark != event.MinTime && (marks[i] == event.MinTime || sh.Watermark < marks[i]) {
			marks[i] = sh.Watermark
		}
	}
	for i := range out {
		out[i].Watermark = timeOrNil(marks[i])
	}
	return out
}

func timeOrNil(t event.Time) *time.Time {
	if t == event.MinTime {
		return nil
	}
	tt := t.Time()
	return &tt
}

func (n *Node) overview() Overview {
	o := Overview{Version: n.opts.Version, Started: n.started.UTC(), Program: n.program.Load().ID(), Trouble: n.troubles(), Streams: n.streamViews(), Rules: n.ruleViews(), Keyed: n.keyedViews()}
	total := func(topic string) int64 {
		start, end, err := n.extent(topic)
		if err != nil {
			return 0
		}
		return end - start
	}
	o.Alerts.Total = total(event.TopicAlerts)
	o.Alerts.PerMinute = n.desk.alertsLastMinute()
	o.Decisions.Total = total(event.TopicDecisions)
	for _, r := range n.router.Status() {
		o.Deliveries.Delivered += r.Delivered
		o.Deliveries.Retrying += r.Retrying
		o.Deliveries.Failed += r.Failed
	}
	for _, f := range n.freshness() {
		hw, err := n.highWatermark(f.Topic, f.Partition)
		if err == nil {
			o.SQL.Lag += max(0, hw-f.Offset)
		}
		o.SQL.AgeMillis = max(o.SQL.AgeMillis, f.Age.Milliseconds())
	}
	topics := n.log.Topics()
	o.Log.Topics = len(topics)
	for _, t := range topics {
		for _, p := range t.Partitions() {
			o.Log.Bytes += p.Size()
		}
	}
	return o
}

type alertsQuery struct {
	Limit    int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
	Rule     string `query:"rule" doc:"Only this rule's."`
	Stream   string `query:"stream" doc:"Only this stream's."`
	Severity string `query:"severity" enum:"low,medium,high,critical" doc:"Only this severity."`
	Key      string `query:"key" doc:"Only this key's."`
	Before   string `query:"before" doc:"The previous page's next: where this page begins."`
}

// AlertsPage is one page of alerts.
type AlertsPage struct {
	Alerts []AlertView `json:"alerts"`
	Next   string      `json:"next,omitempty" doc:"Pass it as before for the page that follows; absent on the last one."`
}

func (n *Node) listAlerts(ctx context.Context, in *alertsQuery) (*answer[AlertsPage], error) {
	where := []string{"true"}
	var args []any
	equal := func(column, value string) {
		if value != "" {
			args = append(args, value)
			where = append(where, column+" = $"+strconv.Itoa(len(args)))
		}
	}
	equal("rule", in.Rule)
	equal("stream", in.Stream)
	equal("severity", in.Severity)
	equal("key", in.Key)
	if in.Before != "" {
		nanos, id, ok := strings.Cut(in.Before, ",")
		ns, err := strconv.ParseInt(nanos, 10, 64)
		if !ok || err != nil {
			return nil, huma.Error422UnprocessableEntity("before: expected the next of an earlier page", &huma.ErrorDetail{Location: "query.before", Message: "not a page mark", Value: in.Before})
		}
		args = append(args, ns, id)
		where = append(where, fmt.Sprintf("(epoch_ns(time), id) < ($%d::BIGINT, $%d)", len(args)-1, len(args)))
	}
	text := `SELECT id, epoch_ns(time), rule, stream, key, severity, score, action, message, "values", _topic, _partition, _offset
		FROM alerts WHERE ` + strings.Join(where, " AND ") + ` ORDER BY time DESC, id DESC LIMIT ` + strconv.Itoa(in.Limit+1)
	res, err := n.query(ctx, text, args...)
	if err != nil {
		return nil, ownQueryError(err)
	}
	page := AlertsPage{Alerts: []AlertView{}}
	var lastNanos int64
	for _, row := range res.Rows {
		if len(page.Alerts) == in.Limit {
			page.Next = fmt.Sprintf("%d,%s", lastNanos, page.Alerts[len(page.Alerts)-1].ID)
			break
		}
		lastNanos = asInt(row[1])
		page.Alerts = append(page.Alerts, AlertView{
			ID: asText(row[0]), Time: event.Time(lastNanos).Time(), Rule: asText(row[2]), Stream: asText(row[3]), Key: asText(row[4]),
			Severity: asText(row[5]), Score: asFloat(row[6]), Action: asText(row[7]), Message: asText(row[8]), Values: asJSON(row[9]),
			Topic: asText(row[10]), Partition: int32(asInt(row[11])), Offset: asInt(row[12]), Deliveries: []DeliveryView{},
		})
	}
	return &answer[AlertsPage]{page}, n.addDeliveries(ctx, page.Alerts)
}

// addDeliveries fills in the attempts of a page's alerts, in one query.
func (n *Node) addDeliveries(ctx context.Context, page []AlertView) error {
	if len(page) == 0 {
		return nil
	}
	index := make(map[string]*AlertView, len(page))
	marks := make([]string, len(page))
	args := make([]any, len(page))
	for i := range page {
		index[page[i].ID] = &page[i]
		marks[i] = "$" + strconv.Itoa(i+1)
		args[i] = page[i].ID
	}
	res, err := n.query(ctx, `SELECT alert, epoch_ns(time), receiver, attempt, outcome, status, error
		FROM deliveries WHERE alert IN (`+strings.Join(marks, ", ")+`) ORDER BY time`, args...)
	if err != nil {
		return err
	}
	for _, row := range res.Rows {
		a := index[asText(row[0])]
		a.Deliveries = append(a.Deliveries, DeliveryView{
			Time: event.Time(asInt(row[1])).Time(), Receiver: asText(row[2]), Attempt: asInt(row[3]), Outcome: asText(row[4]), Status: asInt(row[5]), Error: asText(row[6]),
		})
	}
	return nil
}

// SQLQuery is a query and its parameters.
type SQLQuery struct {
	Query string `json:"query" minLength:"1" doc:"One statement that reads."`
	Args  []any  `json:"args,omitempty" doc:"The values of $1, $2 and so on."`
}

// SQLAnswer is a query's answer.
type SQLAnswer struct {
	Columns       []SQLColumn     `json:"columns"`
	Rows          [][]any         `json:"rows" doc:"Decimals and integers beyond 64 bits are strings, so that no reader rounds them."`
	ElapsedMillis float64         `json:"elapsed_ms"`
	Truncated     bool            `json:"truncated" doc:"There were more rows."`
	Freshness     []FreshnessView `json:"freshness" doc:"Of the tables that the query names."`
}

// SQLColumn is a column of an answer.
type SQLColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// FreshnessView says how far SQL has read one partition.
type FreshnessView struct {
	Name      string     `json:"name"`
	Topic     string     `json:"topic"`
	Partition int32      `json:"partition"`
	Offset    int64      `json:"offset" doc:"Every record below it is in the answer."`
	Watermark *time.Time `json:"watermark"`
	AgeMillis int64      `json:"age_ms"`
}

func (n *Node) runQuery(ctx context.Context, in *struct{ Body SQLQuery }) (*answer[SQLAnswer], error) {
	res, err := n.query(ctx, in.Body.Query, in.Body.Args...)
	if err != nil {
		return nil, queryError(err)
	}
	out := SQLAnswer{Columns: []SQLColumn{}, Rows: res.Rows, ElapsedMillis: float64(res.Elapsed.Microseconds()) / 1e3, Truncated: res.Truncated, Freshness: []FreshnessView{}}
	if out.Rows == nil {
		out.Rows = [][]any{}
	}
	for _, c := range res.Columns {
		out.Columns = append(out.Columns, SQLColumn{c.Name, c.Type})
	}
	for _, f := range res.Freshness {
		out.Freshness = append(out.Freshness, FreshnessView{f.Name, f.Topic, f.Partition, f.Offset, timeOrNil(f.Watermark), f.Age.Milliseconds()})
	}
	return &answer[SQLAnswer]{out}, nil
}

// queryError tells a person's mistake in a query with its place, as a 400.
func queryError(err error) error {
	var e *analytics.Error
	if !errors.As(err, &e) {
		return err
	}
	detail := &huma.ErrorDetail{Message: e.Message, Value: e.Code, Location: "body.query"}
	if e.Position > 0 {
		detail.Location = fmt.Sprintf("body.query character %d", e.Position)
	}
	if e.Hint != "" {
		detail.Message += " (" + e.Hint + ")"
	}
	status := http.StatusBadRequest
	switch e.Code {
	case "57P03":
		status = http.StatusServiceUnavailable
	case "57014":
		status = http.StatusRequestTimeout
	case "XX000":
		status = http.StatusInternalServerError
	}
	return huma.NewError(status, e.Message, detail)
}

// ownQueryError is queryError for a query that the caller did not write: only that the
// database is not there yet is told.
func ownQueryError(err error) error {
	var e *analytics.Error
	if errors.As(err, &e) && e.Code == "57P03" {
		return queryError(err)
	}
	return err
}

// The values of an answer of our own queries, whose types are known.

func asText(v any) string {
	s, _ := v.(string)
	return s
}

func asInt(v any) int64 {
	i, _ := v.(int64)
	return i
}

func asFloat(v any) float64 {
	f, _ := v.(float64)
	return f
}

func asJSON(v any) json.RawMessage {
	switch j := v.(type) {
	case json.RawMessage:
		return j
	case string:
		return json.RawMessage(j)
	}
	return json.RawMessage("{}")
}
