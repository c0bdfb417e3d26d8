package rules

import (
	"errors"
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// status is how an evaluation ended.
type status uint8

const (
	good   status = iota
	noData        // something read has no value
	failed        // a real error, in frame.err
)

// frame is the row under evaluation. It belongs to one instance.
type frame struct {
	b   *event.Batch
	out *cep.Outbox // nil inside a window's where and aggregate
	row int
	err error // of the last failed

	tables []tableRef // in force, by slot; none before the first
	key    []byte     // scratch for the keys of lookups
}

func (f *frame) fail(err error) status {
	f.err = err
	return failed
}

// fault is why a window has no value at this row.
func (f *frame) fault(slot int) status {
	if len(f.out.Faults) > 0 {
		if err := f.out.FaultAt(slot, f.row); err != nil {
			return f.fail(err)
		}
	}
	return noData
}

// errNoData is the error of the kind no_data inside cel-go.
var errNoData = errors.New("no_data")

// activation gives cel-go a row's values, boxed when they are asked for.
type activation struct {
	f      *frame
	scope  *scope
	noData *types.Err // cel-go writes into errors, so it cannot be shared
}

func newActivation(f *frame, sc *scope) *activation {
	return &activation{f: f, scope: sc, noData: types.WrapErr(errNoData).(*types.Err)}
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	v, found := a.scope.vars[name]
	if !found {
		return nil, false
	}
	switch v.kind {
	case fieldVar:
		c := &a.f.b.Cols[v.index]
		if c.IsNull(a.f.row) {
			return a.noData, true
		}
		return box(c, a.f.row), true
	case windowVar:
		c := &a.f.out.Features[v.index]
		if !c.IsNull(a.f.row) {
			return box(c, a.f.row), true
		}
		if a.f.fault(v.index) == failed {
			return types.WrapErr(a.f.err), true
		}
		return a.noData, true
	case tablesVar:
		return tablesValue{a.f}, true
	case constVar:
		return a.scope.consts[v.index], true
	case pathVar:
		c := a.scope.stream.paths[v.index].column(a.f.b)
		if c.IsNull(a.f.row) {
			return a.noData, true
		}
		return box(c, a.f.row), true
	case hasPathVar:
		return types.Bool(!a.scope.stream.paths[v.index].column(a.f.b).IsNull(a.f.row)), true
	case hasFieldVar:
		return types.Bool(!a.f.b.Cols[v.index].IsNull(a.f.row)), true
	default: // a window that failed has something to say
		return types.Bool(!a.f.out.Features[v.index].IsNull(a.f.row) || a.f.out.FaultAt(v.index, a.f.row) != nil), true
	}
}

func box(c *event.Column, row int) ref.Val {
	switch c.Type.Kind {
	case event.Bool:
		return types.Bool(c.Bool(row))
	case event.Int64:
		return types.Int(c.Int64[row])
	case event.Double:
		return types.Double(c.Double[row])
	case event.Decimal:
		return decimal{c.Int64[row], c.Type.Scale}
	case event.String:
		return types.String(c.Bytes(row))
	case event.Timestamp:
		return types.Timestamp{Time: event.Time(c.Int64[row]).Time()}
	case event.List, event.Map, event.Struct:
		return boxNested(c, row)
	}
	return types.Bytes(append([]byte(nil), c.Bytes(row)...))
}

// valueBits is a CEL value that is no text as the bits of a window's value.
func valueBits(v any) uint64 {
	switch v := v.(type) {
	case types.Bool:
		if v {
			return 1
		}
	case types.Timestamp:
		return uint64(v.UnixNano())
	case types.Int:
		return uint64(v)
	case types.Double:
		return math.Float64bits(float64(v))
	case decimal:
		return uint64(v.v)
	}
	return 0
}
