package published

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Root is the project's root: the directory above the test that has go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// File is the path of a file of published input: in the directory WEIR_DATA, else
// in shared/data beside the project.
func File(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("WEIR_DATA")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(Root(t)), "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		Absent(t, name, "set WEIR_DATA to the directory that has it")
	}
	return path
}

// Program is the path of an outside program, such as kcat or psql.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Absent(t, name, "test/scripts/install.sh tests")
	}
	return path
}

// Absent says by name what is not there: the test is not run or, where
// WEIR_REQUIRE_DATA is 1, has failed.
func Absent(t testing.TB, what, advice string) {
	t.Helper()
	if os.Getenv("WEIR_REQUIRE_DATA") == "1" {
		t.Fatalf("%s is needed and not there (%s)", what, advice)
	}
	if list := os.Getenv("WEIR_NOT_RUN"); list != "" {
		note(t, list, fmt.Sprintf("%s: %s is not there (%s)", t.Name(), what, advice))
	}
	t.Skipf("not run: %s is not there (%s)", what, advice)
}

// note appends a line to the list of what was not run.
func note(t testing.TB, list, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, "\n") // what a tool said goes on for long
	f, err := os.OpenFile(list, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// Weir is the weir under test, for a TestMain: WEIR_BINARY, or one built for this run,
// which remove takes away.
func Weir() (path string, remove func(), err error) {
	if path = os.Getenv("WEIR_BINARY"); path != "" {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "weir-binary")
	if err != nil {
		return "", nil, err
	}
	path, remove = filepath.Join(dir, "weir"), func() { _ = os.RemoveAll(dir) }
	build := exec.Command("go", "build", "-o", path, "github.com/weirstream/weir/cmd/weir")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		remove()
		return "", nil, fmt.Errorf("building weir: %w", err)
	}
	return path, remove, nil
}
