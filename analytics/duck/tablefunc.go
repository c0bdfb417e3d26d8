package duck

/*
#include <stdlib.h>
void weirBind(void*);
void weirInit(void*);
void weirScan(void*, void*);
void weirDrop(void*);
typedef void (*weir_cb1)(void*);
typedef void (*weir_cb2)(void*, void*);
static weir_cb1 weir_bind() { return weirBind; }
static weir_cb1 weir_init() { return weirInit; }
static weir_cb2 weir_scan() { return weirScan; }
static weir_cb1 weir_drop() { return weirDrop; }
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"unsafe"

	"github.com/duckdb/duckdb-go/v2/mapping"

	"github.com/weirstream/weir/ingest/event"
)

// TableFunction is a table that Go computes at each scan, column by column. The
// driver's own table functions set value by value and are 1,000 times slower on
// columns that a query does not read.
type TableFunction struct {
	Name    string
	Columns []event.Field
	// Scan returns one column for each of Columns, all of the same length. It is
	// called once a scan, by a thread of DuckDB; it must not wait for queries.
	Scan func() []event.Column
}

// Register makes f callable as NAME(). It stays so over Reopen.
func (db *DB) Register(f *TableFunction) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !db.open {
		return ErrClosed
	}
	if err := db.writer.conn.register(f); err != nil {
		return err
	}
	db.functions = append(db.functions, f)
	return nil
}

func (c *connection) register(f *TableFunction) error {
	tf := mapping.CreateTableFunction()
	defer mapping.DestroyTableFunction(&tf)
	mapping.TableFunctionSetName(tf, f.Name)
	mapping.TableFunctionSetExtraInfo(tf, handle(f), unsafe.Pointer(C.weir_drop()))
	mapping.TableFunctionSetBind(tf, unsafe.Pointer(C.weir_bind()))
	mapping.TableFunctionSetInit(tf, unsafe.Pointer(C.weir_init()))
	mapping.TableFunctionSetFunction(tf, unsafe.Pointer(C.weir_scan()))
	mapping.TableFunctionSupportsProjectionPushdown(tf, true)
	if mapping.RegisterTableFunction(c.conn, tf) == mapping.StateError {
		return fmt.Errorf("DuckDB does not take the table function %s", f.Name)
	}
	return nil
}

// handle wraps v for C, which may not hold a Go pointer.
func handle(v any) unsafe.Pointer {
	p := C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0))))
	*(*cgo.Handle)(p) = cgo.NewHandle(v)
	return p
}

func unhandle[T any](p unsafe.Pointer) T { return (*(*cgo.Handle)(p)).Value().(T) }

// scan is one scan of a table function.
type scan struct {
	columns []event.Column
	project []int
	next    int
}

//export weirDrop
func weirDrop(p unsafe.Pointer) {
	(*(*cgo.Handle)(p)).Delete()
	C.free(p)
}

//export weirBind
func weirBind(p unsafe.Pointer) {
	info := mapping.BindInfo{Ptr: p}
	f := unhandle[*TableFunction](mapping.BindGetExtraInfo(info))
	for _, col := range f.Columns {
		lt := logicalType(col.Type)
		mapping.BindAddResultColumn(info, col.Name, lt)
		mapping.DestroyLogicalType(&lt)
	}
}

//export weirInit
func weirInit(p unsafe.Pointer) {
	info := mapping.InitInfo{Ptr: p}
	f := unhandle[*TableFunction](mapping.InitGetExtraInfo(info))
	s := &scan{columns: f.Scan()}
	for i := range mapping.InitGetColumnCount(info) {
		s.project = append(s.project, int(mapping.InitGetColumnIndex(info, i)))
	}
	mapping.InitSetMaxThreads(info, 1)
	mapping.InitSetInitData(info, handle(s), unsafe.Pointer(C.weir_drop()))
}

//export weirScan
func weirScan(p, out unsafe.Pointer) {
	s := unhandle[*scan](mapping.FunctionGetInitData(mapping.FunctionInfo{Ptr: p}))
	chunk := mapping.DataChunk{Ptr: out}
	rows := 0
	if len(s.columns) > 0 {
		rows = s.columns[0].Len()
	}
	n := min(chunkRows, rows-s.next)
	for i, col := range s.project {
		if col < len(s.columns) { // beyond: the row id of a count(*), of which nothing is read
			fillValues(mapping.DataChunkGetVector(chunk, mapping.IdxT(i)), &s.columns[col], s.next, n)
		}
	}
	s.next += n
	mapping.DataChunkSetSize(chunk, mapping.IdxT(n))
}

func logicalType(t event.Type) mapping.LogicalType {
	switch t.Kind {
	case event.Bool:
		return mapping.CreateLogicalType(mapping.TypeBoolean)
	case event.Int64:
		return mapping.CreateLogicalType(mapping.TypeBigInt)
	case event.Double:
		return mapping.CreateLogicalType(mapping.TypeDouble)
	case event.Decimal:
		return mapping.CreateDecimalType(18, t.Scale)
	case event.Timestamp:
		return mapping.CreateLogicalType(mapping.TypeTimestampNS)
	case event.Bytes:
		return mapping.CreateLogicalType(mapping.TypeBlob)
	}
	return mapping.CreateLogicalType(mapping.TypeVarchar)
}
