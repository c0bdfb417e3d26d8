package loader_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

// threeFiles are rows at distinct times, each in one of three files of different
// forms; one file has bad rows.
func threeFiles(t *testing.T, rows int) (paths []string, dead int) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 6))
	files := [3]strings.Builder{}
	files[0].WriteString("at,key,n\n")
	files[1].WriteString("n,at,key,a.b\n")
	for i := range rows {
		at := 1_500_000_000 + i
		switch f := r.IntN(3); f {
		case 0:
			fmt.Fprintf(&files[0], "%d,k%d,%d\n", at, i%7, i)
		case 1:
			if r.IntN(50) == 0 {
				fmt.Fprintf(&files[1], "many,%d,k%d,\n", at, i%7)
				dead++
				continue
			}
			fmt.Fprintf(&files[1], "%d,%d,k%d,x\n", i, at, i%7)
		case 2:
			if r.IntN(50) == 0 {
				fmt.Fprintf(&files[2], "{\"at\":\n")
				dead++
				continue
			}
			fmt.Fprintf(&files[2], "{\"at\":%d,\"key\":\"k%d\",\"n\":%d}\n", at, i%7, i)
		}
	}
	for i := range files {
		paths = append(paths, write(t, fmt.Sprintf("part%d.txt", i), []byte(files[i].String())))
	}
	return paths, dead
}

// TestMerge: rows of several files come in order of time, each once, however often
// the load was interrupted; dead letters name their file.
func TestMerge(t *testing.T) {
	const rows = 60_000
	n := startNode(t)
	paths, dead := threeFiles(t, rows)
	s := small(schema.JSON)
	o := loader.Options{Addr: n.addr, Stream: s, Logger: quiet}
	for i := range 4 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(5+15*i)*time.Millisecond)
		_, err := loader.LoadAll(ctx, paths, o)
		cancel()
		if err != nil && !errors.Is(err, loader.ErrInterrupted) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	p, err := loader.LoadAll(context.Background(), paths, o)
	if err != nil || p.Lines != rows || p.BytesRead != p.BytesTotal {
		t.Fatalf("%v %+v", err, p)
	}
	var last, count int64
	for _, v := range n.values("s") {
		var one struct{ At int64 }
		if err := json.Unmarshal([]byte(v), &one); err != nil {
			t.Fatal(err)
		}
		if one.At <= last {
			t.Fatalf("%d after %d", one.At, last)
		}
		last = one.At
		count++
	}
	if count != rows-int64(dead) {
		t.Errorf("%d rows, want %d", count, rows-dead)
	}
	letters := n.deadLetters()
	perFile := map[string]int{}
	for _, d := range letters {
		perFile[d.File]++
	}
	if len(letters) != dead || perFile[paths[0]] != 0 || perFile[paths[1]] == 0 || perFile[paths[2]] == 0 {
		t.Errorf("%d dead letters, want %d: %v", len(letters), dead, perFile)
	}
	if p, err = loader.LoadAll(context.Background(), paths, o); err != nil || !p.Already {
		t.Errorf("a second load: %v %+v", err, p)
	}
}

// TestMergeBrokenFile: what comes before the place where one file breaks off is
// loaded, and the error names that file.
func TestMergeBrokenFile(t *testing.T) {
	n := startNode(t)
	whole := write(t, "whole.csv", []byte("at,key,n\n1,k,1\n4,k,4\n"))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte("at,key,n\n2,k,2\n3,k,3\n"))
	w.Close()
	broken := write(t, "broken.csv.gz", z.Bytes()[:z.Len()-4])
	p, err := loader.LoadAll(context.Background(), []string{whole, broken}, loader.Options{Addr: n.addr, Stream: small(schema.JSON), Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("error %v", err)
	}
	if got := n.values("s"); int64(len(got)) != p.Accepted || len(got) < 1 || !strings.Contains(got[0], `"at":1`) {
		t.Errorf("loaded %q", got)
	}
}

// TestShift loads files with their times moved, in each form of file and stream,
// and finds everything else as it was.
func TestShift(t *testing.T) {
	const by = 100 * time.Hour
	for _, format := range []schema.Format{schema.JSON, schema.CSV} {
		for _, file := range []string{
			"at,key,n,a.b\n1500000000.25,k,7,\"x,y\"\n\"1500000001\",k,8,\n",
			"{\"n\":7,\"at\":1500000000.25,\"key\":\"k\",\"a\":{\"b\":\"x,y\"}}\n{\"at\":\"1500000001\",\"key\":\"k\",\"n\":8,\"more\":[1]}\n",
		} {
			n := startNode(t)
			path := write(t, "rows", []byte(file))
			s := small(format)
			for range 2 { // a shifted load is a new one each time
				p, err := loader.LoadAll(context.Background(), []string{path}, loader.Options{Addr: n.addr, Stream: s, Shift: by, Logger: quiet})
				if err != nil || p.Accepted != 2 {
					t.Fatalf("%s: %v %+v", format, err, p)
				}
			}
			got := n.values("s")
			if len(got) != 4 || got[0] != got[2] || got[1] != got[3] {
				t.Fatalf("%s: %q", format, got)
			}
			for i, want := range []string{"1500360000.25", "1500360001"} {
				if !strings.Contains(got[i], want) || strings.Contains(got[i], "1500000") {
					t.Errorf("%s: %s, want a time of %s", format, got[i], want)
				}
			}
			if !strings.Contains(got[0], "x,y") || strings.HasPrefix(file, "{") && format == schema.JSON && !strings.Contains(got[1], `"more":[1]`) {
				t.Errorf("%s: something else changed: %q", format, got)
			}
			for _, recs := range n.records("s") {
				if recs[0].Timestamp != 1_500_360_000_250 {
					t.Errorf("the record's timestamp is %d", recs[0].Timestamp)
				}
			}
		}
	}
}

// TestPaced: a load at a pace takes the time it must, resumes without waiting for
// what is there, and sends each row alone.
func TestPaced(t *testing.T) {
	n := startNode(t)
	path := write(t, "rows.csv", []byte("at,key,n\n1,k,1\n2,k,2\n3,k,3\n4,k,4\n"))
	options := func(speed float64) loader.Options {
		pace, err := loader.NewPace(speed, 1)
		if err != nil {
			t.Fatal(err)
		}
		return loader.Options{Addr: n.addr, Stream: small(schema.JSON), Pace: pace, Logger: quiet}
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := options(0.001) // the second row would go in 1000 s
	o.Progress = func(p loader.Progress) {
		if p.Accepted == 1 {
			cancel() // the first has gone although its batch was not full
		}
	}
	if _, err := loader.Load(ctx, path, o); !errors.Is(err, loader.ErrInterrupted) {
		t.Fatal(err)
	}
	began := time.Now()
	p, err := loader.Load(context.Background(), path, options(20))
	if err != nil || p.Accepted != 3 || p.Skipped != 1 {
		t.Fatalf("%v %+v", err, p)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("three rows, 50 ms apart, took %s", took)
	}
	if got := n.values("s"); len(got) != 4 || !slices.IsSorted(got) {
		t.Errorf("%q", got)
	}
}

func TestFindSpan(t *testing.T) {
	a := write(t, "a.csv", []byte("at,key,n\n5,k,1\n2,k,2\nbad,k,3\n"))
	b := write(t, "b.csv", []byte("at,key,n\n9,k,1\n"))
	s, err := loader.FindSpan(context.Background(), []string{a, b}, small(schema.JSON), nil)
	if err != nil || s.Rows != 3 || s.First.Millis() != 2000 || s.Last.Millis() != 9000 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err = loader.FindSpan(context.Background(), []string{write(t, "c.csv", []byte("at,key,n\n"))}, small(schema.JSON), nil); err != nil || s.Rows != 0 {
		t.Errorf("no rows: %+v %v", s, err)
	}
}
