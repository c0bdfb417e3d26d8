package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/rules"
)

// ReloadView is what a reload of the rule files did.
type ReloadView struct {
	Program string         `json:"program" doc:"Hash of the rule set that was declared."`
	Before  string         `json:"before" doc:"Hash of the one before; the same where nothing that decides has changed."`
	Rules   []ReloadedRule `json:"rules" doc:"In the order of the files; those that were removed last."`
	Tables  int            `json:"tables" doc:"Tables and lists whose CSV files were read again."`
}

// ReloadedRule is what became of one rule.
type ReloadedRule struct {
	ID      string `json:"id"`
	Stream  string `json:"stream"`
	Mode    string `json:"mode"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Change  string `json:"change" enum:"unchanged,changed,new,removed"`
	Warming bool   `json:"warming" doc:"Windows are made for it from the log before it decides as it is now, which list-rules tells. The others decide from the next event on."`
}

// Count is how many rules a change came to.
func (v *ReloadView) Count(change string) (n int) {
	for i := range v.Rules {
		if v.Rules[i].Change == change {
			n++
		}
	}
	return n
}

// String is what it did for people, without what is unchanged and decides.
func (v *ReloadView) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rules: %d unchanged, %d changed, %d new, %d removed; program %s\n",
		v.Count(rules.Unchanged), v.Count(rules.Changed), v.Count(rules.New), v.Count(rules.Removed), v.Program)
	for i := range v.Rules {
		r := &v.Rules[i]
		if r.Change == rules.Unchanged && !r.Warming {
			continue
		}
		what := "decides from the next event on"
		switch {
		case r.Change == rules.Removed:
			what = "decides no more"
		case r.Mode == "off":
			what = "is off"
		case r.Warming:
			what = "its windows are made from the log first; see weir rule list --running"
		}
		fmt.Fprintf(&b, "  %-9s  %s: %s\n", r.Change, r.ID, what)
	}
	return b.String()
}

// reloadMetrics are named as Prometheus names its own.
type reloadMetrics struct{ good, at prometheus.Gauge }

func newReloadMetrics(r prometheus.Registerer) reloadMetrics {
	m := reloadMetrics{
		good: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_config_last_reload_successful", Help: "Whether the rules and tables were read without a mistake, the last time."}),
		at:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_config_last_reload_success_timestamp_seconds", Help: "When they were, at last."}),
	}
	r.MustRegister(m.good, m.at)
	m.done(nil) // the start has read them
	return m
}

func (m *reloadMetrics) done(err error) {
	if err != nil {
		m.good.Set(0)
		return
	}
	m.good.Set(1)
	m.at.Set(float64(time.Now().UnixMilli()) / 1e3)
}

var errStarting = errors.New("weir is starting, and has just read them")

// Reload reads the rule files and the CSV files of tables again, and makes them what
// decides. Where anything is wrong with one, nothing changes; the error is
// schema.Problems where a person's mistake is the cause.
func (n *Node) Reload(ctx context.Context) (*ReloadView, error) {
	select {
	case <-n.ready:
	default:
		return nil, errStarting
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	v, err := n.reload(ctx)
	n.reloads.done(err)
	if err != nil {
		n.logger.Error("rules and tables were not reloaded: those of before stay in force", "err", err)
		return nil, err
	}
	n.logger.Info("rules and tables were reloaded", "program", v.Program, "before", v.Before, "unchanged", v.Count(rules.Unchanged),
		"changed", v.Count(rules.Changed), "new", v.Count(rules.New), "removed", v.Count(rules.Removed), "tables", v.Tables)
	return v, nil
}

func (n *Node) reload(ctx context.Context) (*ReloadView, error) {
	var set rules.Set
	var err error
	if dir := n.cfg.RulesNow(); dir != "" {
		if set, err = rules.LoadDir(dir); err != nil {
			return nil, err
		}
	}
	tables, problems := loadTables(n.cfg.Tables)
	problems = append(problems, unknownRules(n.cfg, set)...)
	if err := problems.ErrOrNil(); err != nil {
		return nil, err
	}
	next, err := rules.Compile(set, n.catalog(n.streams()))
	if err != nil {
		return nil, err
	}
	v := &ReloadView{}
	for i := range tables {
		if tables[i].CSV == "" {
			continue
		}
		v.Tables++
		if err := n.applyTable(ctx, &tables[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", tables[i].Definition.Kind(), tables[i].Definition.Name, err)
		}
	}
	before := n.program.Load()
	v.Program, v.Before = next.ID(), before.ID()
	waits, err := waiting(before, next, n.streams())
	if err != nil {
		return nil, err
	}
	states := n.ruleStates(before, before.Rules()) // a rule of before may wait still
	for _, d := range next.Differences(before) {
		warming := d.Change != rules.Removed && states[d.ID].state == stateWarming || (d.Change == rules.New || d.Change == rules.Changed) && waits(d.ID)
		v.Rules = append(v.Rules, ReloadedRule{ID: d.ID, Stream: d.Stream, Mode: d.Mode, File: d.File, Line: d.Line, Change: d.Change, Warming: warming})
	}
	next.Continue(before)
	if err := n.decideBy(next, n.streams()); err != nil {
		return nil, err
	}
	n.rules = set
	return v, nil
}

// decideBy makes the engine decide by a program. The catalogue has it first: from then on
// the journal may name it.
func (n *Node) decideBy(next *rules.Program, streams []*schema.Stream) error {
	uses, err := keyedUses(next)
	if err != nil {
		return err
	}
	if err := n.programs.declare(next, time.Now()); err != nil {
		return err
	}
	partitions, err := n.sourcePartitions(streams)
	if err != nil {
		return err
	}
	if err := n.engine.Declare(streams, next, partitions); err != nil {
		return err
	}
	n.program.Store(next)
	n.keyedUses.Store(&uses)
	select {
	case n.reloaded <- struct{}{}:
	default:
	}
	return nil
}

// waiting tells which rules of a program do not decide at once, in the place of the one
// before: windows are made for them first.
func waiting(before, next *rules.Program, streams []*schema.Stream) (func(id string) bool, error) {
	had, err := operatorsOf(before, streams)
	if err != nil {
		return nil, err
	}
	has, err := operatorsOf(next, streams)
	if err != nil {
		return nil, err
	}
	lacks := false
	for identity := range has {
		lacks = lacks || !had[identity]
	}
	part, err := next.Over(before)
	if err != nil {
		return nil, err
	}
	meanwhile, inPart := part.(*rules.Program)
	return func(id string) bool {
		if !inPart || meanwhile == nil {
			return lacks
		}
		now, decides := meanwhile.Rule(id)
		then, _ := next.Rule(id)
		return lacks && !(decides && now.DecidesAs(&then))
	}, nil
}

// operatorsOf are the identities of a program's operators, and where they run.
func operatorsOf(p *rules.Program, streams []*schema.Stream) (map[string]bool, error) {
	out := map[string]bool{}
	for _, s := range streams {
		in, err := p.Instance(s)
		if err != nil {
			return nil, err
		}
		for _, op := range in.Operators() {
			out[op.Identity] = true
		}
	}
	for i, k := range p.Keyed() {
		in, err := p.KeyedInstance(i)
		if err != nil {
			return nil, err
		}
		for _, op := range in.Operators() {
			out[engine.TopicKeyed+k.Name+" "+op.Identity] = true
		}
	}
	return out, nil
}

// serveReload is Reload for people and for what sends the request that Prometheus and
// Alertmanager know.
func (n *Node) serveReload(w http.ResponseWriter, r *http.Request) {
	v, err := n.Reload(r.Context())
	switch {
	case err == nil:
		fmt.Fprint(w, v.String())
	case isMistake(err):
		http.Error(w, "nothing was changed:\n"+err.Error(), http.StatusUnprocessableEntity)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// isMistake reports whether a person's mistake is the cause of an error.
func isMistake(err error) bool {
	var p *schema.Problem
	return errors.As(err, &p)
}

func (n *Node) registerReload(api huma.API) {
	huma.Register(api, huma.Operation{OperationID: "reload", Method: http.MethodPost, Path: "/v1/reload", Errors: []int{422, 503},
		Summary: "Read the rule files and the CSV files of tables again, and decide by them from the next event on; a mistake in one changes nothing"},
		func(ctx context.Context, _ *struct{}) (*answer[*ReloadView], error) {
			v, err := n.Reload(ctx)
			switch {
			case err == nil:
				return &answer[*ReloadView]{v}, nil
			case isMistake(err):
				return nil, streamError("", err)
			}
			return nil, huma.Error503ServiceUnavailable(err.Error())
		})
}
