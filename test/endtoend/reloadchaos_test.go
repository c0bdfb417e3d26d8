package endtoend

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/test/seeds"
)

// reloadWindows are those of the rules that come and go. What one by the shop says hangs
// on the keyed stream of its time, and is not compared.
var reloadWindows = []chaosWindow{
	{"%s >= 1", `last("2s").by(tx.card).count()`, "payments", "payments", "card", "card", "", 2000},
	{"%s >= 1", `last("4s").by(tx.card).count()`, "payments", "payments", "card", "card", "", 4000},
	{"%s >= 0", `last("3s").by(tx.card).sum(tx.amount)`, "payments", "payments", "card", "card", "amount", 3000},
	{"%s >= 1", `last("1s").by(tx.card).count()`, "payments", "payments", "card", "card", "", 1000},
	{"%s >= 1", `last("3s").by(tx.shop).count()`, "payments", "payments", "shop", "shop", "", 3000},
}

// writeReloadRules writes some of the rules, each of which fires on each payment.
func writeReloadRules(t *testing.T, dir string, r *rand.Rand) {
	t.Helper()
	var set []string
	for i, w := range reloadWindows {
		if r.IntN(2) == 0 || i == 0 {
			set = append(set, fmt.Sprintf("id: r%d\nstream: payments\nwhen: '%s'\naction: allow\nscore: %d\n", i, fmt.Sprintf(w.when, w.name), r.IntN(3)))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rules", "all.yaml"), []byte(strings.Join(set, "---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKillNineReload reloads other rules at random moments, while events come in and the
// appliance is killed. Every event has one decision, by the program that the journal names
// for it: by all its rules, whose windows hold what they would had the rules been there
// from the beginning.
func TestKillNineReload(t *testing.T) {
	kills := 5
	if seeds.Long(t) {
		kills = 100
	}
	random := seeds.Rand(t)
	dir, data := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(config, []byte(keyedConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	writeReloadRules(t, dir, random)
	reloads := 0
	acked := killWhileLoading(t, random, config, data, kills, func(a *appliance) {
		for range 1 + random.IntN(3) {
			writeReloadRules(t, dir, random)
			resp, err := http.Post("http://"+a.http+"/-/reload", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("reload: %s: %s, %v\n%s", resp.Status, text, err, a.out)
			}
			reloads++
			// The moment of the next one, and of the kill, is the point of the test, not a wait.
			time.Sleep(time.Duration(random.Int64N(int64(500 * time.Millisecond))))
		}
		if random.IntN(2) == 0 {
			writeReloadRules(t, dir, random) // the next life begins with others
		}
	})
	checkReloaded(t, data, acked["payments"])
	t.Logf("%d reloads, %d kills", reloads, kills)
}

// inForce says from which offset on a program decides in a partition.
type inForce struct {
	from    int64
	program string
}

// checkReloaded compares the decisions of payments with the log, the journal and the
// catalogue.
func checkReloaded(t *testing.T, data string, acked int64) {
	t.Helper()
	l, err := commitlog.Open(t.Context(), filepath.Join(data, "log"), commitlog.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	events, locals := map[place]*chaosEvent{}, map[int32][]place{}
	records := int64(0)
	eachRecord(t, l, "payments", func(p int32, r *source.Record) {
		records++
		at, e := place{"payments", p, r.Offset}, &chaosEvent{stream: "payments"}
		if json.Unmarshal(r.Value, &e.fields) == nil {
			e.at = e.number("ts")
			events[at] = e
			locals[p] = append(locals[p], at)
		}
	})
	if records < acked {
		t.Errorf("%d payments in the log, %d were acknowledged", records, acked)
	}
	want := map[place]map[string]int64{}
	for _, w := range reloadWindows {
		for _, order := range locals {
			if w.local() {
				recompute(w, order, events, want)
			}
		}
	}
	journal := map[int32][]inForce{}
	eachRecord(t, l, engine.TopicJournal, func(_ int32, r *source.Record) {
		var m struct {
			Kind, Topic, Program string
			Partition            int32
			Cursor               int64
		}
		if err := json.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "program" && m.Topic == "payments" {
			journal[m.Partition] = append(journal[m.Partition], inForce{m.Cursor, m.Program})
		}
	})
	sets := rulesOf(t, filepath.Join(data, "programs"))
	seen, programs, wrong := map[place]bool{}, map[string]bool{}, 0
	eachRecord(t, l, event.TopicDecisions, func(_ int32, r *source.Record) {
		var d event.Decision
		if err := d.UnmarshalJSON(r.Value); err != nil {
			t.Fatal(err)
		}
		if d.Stream != "payments" {
			return
		}
		at := place{d.Topic, d.Partition, d.Offset}
		problem := decidedWrongly(&d, sets, journal[d.Partition], want[at])
		if seen[at] {
			problem = "it was decided before"
		}
		if problem != "" {
			if wrong++; wrong < 10 {
				t.Errorf("%v, by %s: %s", at, d.Program, problem)
			}
		}
		seen[at], programs[d.Program] = true, true
	})
	if len(seen) != len(events) || wrong > 0 {
		t.Errorf("%d of %d payments decided, %d wrong", len(seen), len(events), wrong)
	}
	t.Logf("%d payments, decided by %d programs", len(seen), len(programs))
}

// decidedWrongly is what is wrong with a decision, empty where nothing is.
func decidedWrongly(d *event.Decision, sets map[string][]string, journal []inForce, want map[string]int64) string {
	program := ""
	for _, f := range journal {
		if f.from <= d.Offset {
			program = f.program
		}
	}
	if program != d.Program {
		return fmt.Sprintf("the journal names %q", program)
	}
	most, least := rulesIn(sets, d.Program)
	for i := range reloadWindows {
		id := fmt.Sprintf("r%d", i)
		if fired := slices.Contains(d.Rules, id); fired && !most[id] || !fired && least[id] {
			return fmt.Sprintf("%v fired, of its rules %v, and surely %v", d.Rules, most, least)
		}
	}
	for _, v := range d.Values {
		n, err := strconv.ParseInt(v.JSON, 10, 64)
		if known, compare := want[v.Name]; err != nil || compare && n != known {
			return fmt.Sprintf("%s is %s, want %d", v.Name, v.JSON, known)
		}
	}
	return ""
}

// rulesIn are the rules that a program may have, and those that it has. One that decides
// while windows of its first part are made has those of that part whose windows are in
// what was there before.
func rulesIn(sets map[string][]string, program string) (most, least map[string]bool) {
	most, least = map[string]bool{}, map[string]bool{}
	first, rest, part := strings.Cut(program, "+")
	for _, id := range sets[first] {
		most[id], least[id] = true, true
	}
	if part {
		_, before := rulesIn(sets, rest)
		for id := range least {
			least[id] = before[id]
		}
	}
	return most, least
}

// rulesOf are the rules of each program of the catalogue.
func rulesOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			ID    string
			Rules []struct{ ID string }
		}
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rules {
			out[p.ID] = append(out[p.ID], r.ID)
		}
		slices.Sort(out[p.ID])
	}
	return out
}
