// Package architecture holds the tests that keep the house as it is drawn in
// docs/architecture.md: who may import whom, that each package says what it is,
// and that nothing is named after nothing.
package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/published"
)

const module = "github.com/weirstream/weir"

// mayImport is the import table: a package under the key may import packages
// under its values, beside those of its own top-level folder. A longer key wins
// over a shorter one.
var mayImport = map[string][]string{
	"ingest/event": {}, // and nothing else outside the standard library
	"log":          {"ingest/event"},
	"ingest":       {"log"},
	"models":       {"ingest/event"},
	"cep":          {"ingest", "log/vfs"},
	"rules":        {"cep", "models", "ingest"},
	"analytics":    {"ingest", "cep"},
	"alerts":       {"ingest/event", "ingest/source", "ingest/sink", "ingest/audit"},
	"dashboards":   {},
	"cmd":          {""},
	"test":         {""},
	"benchmarks":   {""},
}

// testsMayImport is what the tests of any package may use beside the table: a
// real log to run on, what decodes and describes the events in it, where the
// published input is, their addresses and their seeds.
var testsMayImport = []string{"log", "ingest", "test/loopback", "test/published", "test/seeds"}

// topFolders are all folders that may stand at the top.
var topFolders = []string{"log", "ingest", "cep", "rules", "models", "analytics", "alerts", "dashboards", "cmd", "benchmarks", "test", "docs"}

type file struct {
	path    string // slash-separated, from the root
	pkg     string // the folder
	imports []string
	test    bool
	ast     *ast.File
}

func goFiles(t *testing.T) []file {
	t.Helper()
	root := published.Root(t)
	var files []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != root && (strings.HasPrefix(n, ".") || n == "node_modules" || n == "testdata" || n == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		one := file{path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), ast: f}
		for _, imp := range f.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			one.imports = append(one.imports, name)
		}
		files = append(files, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found only %d Go files under %s: the walk is broken", len(files), root)
	}
	return files
}

func under(pkg, folder string) bool {
	return folder == "" || pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

// allowed reports whether a file of pkg may import target, both from the root.
func allowed(pkg, target string, test bool) bool {
	var key string
	for k := range mayImport {
		if under(pkg, k) && len(k) > len(key) {
			key = k
		}
	}
	if key == "" {
		return false
	}
	if top := strings.Split(pkg, "/")[0]; key != "ingest/event" && under(target, top) {
		return true
	}
	for _, ok := range mayImport[key] {
		if under(target, ok) {
			return true
		}
	}
	return test && slices.ContainsFunc(testsMayImport, func(ok string) bool { return under(target, ok) })
}

func TestImportTable(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, imp := range f.imports {
			target, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case ours && !allowed(f.pkg, target, f.test):
				t.Errorf("%s imports %s: the import table in docs/architecture.md does not allow it", f.path, target)
			case !ours && f.pkg == "ingest/event" && !f.test && strings.Contains(strings.Split(imp, "/")[0], "."):
				t.Errorf("%s imports %s: ingest/event uses the standard library only", f.path, imp)
			case imp == "C" && f.pkg != "analytics/duck":
				t.Errorf("%s uses cgo: only analytics/duck may", f.path)
			}
		}
	}
}

func TestTableItself(t *testing.T) {
	for _, c := range []struct {
		pkg, target string
		test, want  bool
	}{
		{"log/broker", "log/commitlog", false, true},
		{"log/broker", "ingest/event", false, true},
		{"log/broker", "ingest/decode", false, false},
		{"ingest/event", "ingest/schema", false, false},
		{"alerts/webhook", "ingest/sink", false, true},
		{"alerts/webhook", "log/vfs", false, false},
		{"alerts/webhook", "log/vfs", true, true},
		{"rules", "analytics", false, false},
		{"rules", "analytics", true, false},
		{"cmd/node", "analytics/duck", false, true},
		{"strange", "log", false, false},
	} {
		if got := allowed(c.pkg, c.target, c.test); got != c.want {
			t.Errorf("allowed(%q, %q, test %v) = %v, want %v", c.pkg, c.target, c.test, got, c.want)
		}
	}
}

func TestFolders(t *testing.T) {
	entries, err := os.ReadDir(published.Root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "weir-data" && !slices.Contains(topFolders, e.Name()) {
			t.Errorf("%s/ stands at the top; the house has %s", e.Name(), strings.Join(topFolders, ", "))
		}
	}
	for _, f := range goFiles(t) {
		switch path.Base(f.pkg) {
		case "utils", "util", "common", "helpers", "types", "misc", "internal", "pkg":
			t.Errorf("%s: a package is a noun of the domain", f.path)
		}
	}
}

// TestPackagesSayWhatTheyAre wants a doc.go with invariants and goroutines in
// each package that is more than a test or a main.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	docs := map[string]string{}
	for _, f := range goFiles(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		if _, seen := docs[f.pkg]; !seen {
			docs[f.pkg] = ""
		}
		if path.Base(f.path) == "doc.go" && f.ast.Doc != nil {
			docs[f.pkg] = f.ast.Doc.Text()
		}
	}
	for pkg, doc := range docs {
		switch {
		case doc == "":
			t.Errorf("%s has no doc.go with a package comment", pkg)
		case pkg == "log": // the root of the folder, doc only
		case !strings.Contains(strings.ToLower(doc), "goroutine"):
			t.Errorf("%s/doc.go does not name the package's goroutines", pkg)
		case !strings.Contains(doc, "\n 1. "):
			t.Errorf("%s/doc.go has no numbered invariants", pkg)
		}
	}
}

// TestSeeds: randomised tests have their randomness from test/seeds, so that what
// failed can be run again.
func TestSeeds(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test || f.pkg == "test/seeds" || f.pkg == "test/architecture" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if n.Kind == token.STRING && slices.Contains([]string{"WEIR_SEED", "WEIR_SEEDS", "WEIR_SEED_BASE", "WEIR_LONG"}, strings.Trim(n.Value, "\"`")) {
					t.Errorf("%s reads %s: test/seeds does", f.path, n.Value)
				}
			case *ast.CallExpr:
				if why := unseeded(n); why != "" {
					t.Errorf("%s calls %s: the seeds of tests are those of test/seeds", f.path, why)
				}
			}
			return true
		})
	}
}

// unseeded names a call that is different every time, where n is one: of the
// generator that all share, or of the clock as a number.
func unseeded(n *ast.CallExpr) string {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := sel.X.(*ast.Ident); ok && x.Name == "rand" && !strings.HasPrefix(sel.Sel.Name, "New") {
		return "rand." + sel.Sel.Name
	}
	if x, ok := sel.X.(*ast.CallExpr); ok && sel.Sel.Name == "UnixNano" {
		if now, ok := x.Fun.(*ast.SelectorExpr); ok && now.Sel.Name == "Now" {
			return "Now().UnixNano"
		}
	}
	return ""
}
