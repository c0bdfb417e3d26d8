package seeds

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// clean takes away what the person who runs the tests has set.
func clean(t *testing.T) {
	for _, name := range []string{"WEIR_SEED", "WEIR_SEED_BASE", "WEIR_SEEDS", "WEIR_LONG"} {
		t.Setenv(name, "")
	}
}

func TestBase(t *testing.T) {
	clean(t)
	t.Setenv("WEIR_SEED_BASE", "c0ffee")
	want := []uint64{0xebbb7a8, 0xebbb7a9, 0xebbb7aa}
	if got := List(t, 3); !slices.Equal(got, want) || One(t) != want[0] {
		t.Errorf("%#x", got)
	}
	t.Run("other", func(t *testing.T) {
		if One(t) == want[0] {
			t.Error("two tests have one seed")
		}
	})
	t.Setenv("WEIR_SEED_BASE", "c0ffef")
	if One(t) == want[0] {
		t.Error("two bases give one seed")
	}
	t.Setenv("WEIR_SEED_BASE", "")
	if a, b, c := One(t), One(t), One(t); a == b && b == c {
		t.Error("not random")
	}
}

func TestCount(t *testing.T) {
	clean(t)
	want := 30
	if testing.Short() {
		want = 3
	}
	if n := Count(t, 30); n != want {
		t.Error(n)
	}
	t.Setenv("WEIR_LONG", "1")
	if n := Count(t, 30); n != 1500 {
		t.Error(n)
	}
	t.Setenv("WEIR_SEEDS", "7")
	if n := Count(t, 30); n != 210 {
		t.Error(n)
	}
	t.Setenv("WEIR_SEED", "5")
	if got := List(t, 30); !slices.Equal(got, []uint64{5}) || One(t) != 5 {
		t.Error(got)
	}
	ran := 0
	if Each(t, 2, func(_ *testing.T, seed uint64) { ran += int(seed) }) || ran != 5 {
		t.Errorf("one world passed for two: %d", ran)
	}
}

// TestEachNames runs worlds of which one ends badly, in a process of their own, and
// expects its seed in what that prints.
func TestEachNames(t *testing.T) {
	if how := os.Getenv("WEIR_TEST_WORLD"); how != "" {
		Each(t, 10, func(t *testing.T, seed uint64) { endBadly(t, seed, how) })
		return
	}
	clean(t)
	t.Setenv("WEIR_SEED_BASE", "c0ffee")
	for _, c := range []struct {
		how  string
		env  string
		want string // in what is printed; "": it passes
	}{
		{how: "well"},
		{how: "error", want: "after 2 worlds that passed: WEIR_SEED=1646411787"},
		{how: "fatal", want: "after 2 worlds that passed: WEIR_SEED=1646411787"},
		{how: "panic", want: "TestEachNames/seed_1646411787"},
		{how: "hang", want: "TestEachNames/seed_1646411787"},
		{how: "well", env: "WEIR_SEEDS=many", want: "WEIR_SEEDS: "},
		{how: "well", env: "WEIR_SEED=-1", want: "WEIR_SEED: "},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEachNames$", "-test.timeout=2s")
		cmd.Env = append(os.Environ(), "WEIR_TEST_WORLD="+c.how, c.env)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("%+v: %v, printed\n%s", c, err, out)
		}
	}
}

func endBadly(t *testing.T, seed uint64, how string) {
	if seed%8 != 3 {
		return
	}
	switch how {
	case "error":
		t.Error("bad")
	case "fatal":
		t.Fatal("bad")
	case "panic":
		panic("bad")
	case "hang":
		select {}
	}
}
