package loader_test

import (
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

// TestForeign: a file that is plainly something else is refused by its name, not by
// what CSV would make of it.
func TestForeign(t *testing.T) {
	n := startNode(t)
	for name, c := range map[string]struct{ file, want string }{
		"UTF-16":          {"\xff\xfea\x00t\x00,\x00k\x00\n\x00", "UTF-16"},
		"UTF-16, JSON":    {"\xfe\xff\x00{\x00\"\x00a", "UTF-16"},
		"zip":             {"PK\x03\x04\x14\x00", "zip"},
		"zstd":            {"\x28\xb5\x2f\xfd\x04\x00", "zstd"},
		"JSON array":      {"\n[ \n {\"at\":1}]", "JSON array"},
		"NUL bytes":       {"at,key\x00,n\n", "NUL"},
		"CR line ends":    {"at,key,n\r1,k,1\r", "CR that no LF follows"},
		"a long header":   {"a," + strings.Repeat("é", 100_000) + "\n1,2\n", "..."},
		"a column thrice": {"at,key,n,n,n\n1,k,1,1,1\n", `column "n" stands in the header twice`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := load(n, write(t, "f", []byte(c.file)), small(schema.JSON))
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 2000 || p.Lines > 0 {
				t.Fatalf("%v", err)
			}
			if strings.Count(err.Error(), "twice") > 1 {
				t.Fatalf("said twice: %v", err)
			}
			if l, err := loader.OpenLines(t.Context(), write(t, "f", []byte(c.file)), ','); err == nil {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	// Such names are a header nevertheless.
	if p, err := load(n, write(t, "f", []byte("[x],at,key,n,,\n,1,k,1,,\n")), small(schema.JSON)); err != nil || p.Accepted != 1 {
		t.Fatalf("%v %+v", err, p)
	}
}
