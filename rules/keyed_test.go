package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/schema"
)

func compileKeyed(t testing.TB, whens ...string) *Program {
	t.Helper()
	var set Set
	for i, when := range whens {
		set = append(set, Rule{ID: fmt.Sprint("r", i), Stream: "transactions", When: when, Action: "alert", Mode: "live"})
	}
	p, err := Compile(set, Catalog{Streams: []*schema.Stream{transactions(), clicks()}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// describe tells keyed streams as name: stream(key; fields) reads, without hashes.
func describe(p *Program) (out []string) {
	for _, k := range p.Keyed() {
		text := regexp.MustCompile("-[0-9a-f]{12}$").ReplaceAllString(k.Name, "")
		for _, src := range k.Sources {
			name := func(f int) string { return src.Stream.Schema.Fields[f].Name }
			var key, fields []string
			for _, f := range src.Key {
				key = append(key, name(f))
			}
			for _, f := range src.Fields {
				fields = append(fields, name(f))
			}
			text += fmt.Sprintf(" %s(%s; %s)%v", src.Stream.Schema.Stream, strings.Join(key, ","), strings.Join(fields, ","), src.Reads)
		}
		out = append(out, text)
	}
	return out
}

// TestKeyed looks at which windows go to which keyed streams, and what these take along.
func TestKeyed(t *testing.T) {
	for _, c := range []struct {
		whens []string
		want  []string
	}{
		{[]string{`last("1h").by(tx.card).count() > 3`}, nil},
		{[]string{`last("1h").by(tx.country, tx.card).count() > 3`}, nil},
		{[]string{`last("1h").by(tx.country).where(tx.items > 1).sum(tx.amount) > 3.0`, `last("2h").by(tx.country).where(tx.items > 1).count() > 1`, `last("2h").by(tx.country).count() > 1`},
			[]string{"country transactions(country; amount,items,country)[2 0 1]"}},
		{[]string{`last("1h").by(tx.country).count() > 3 && last("1h").by(tx.online).count() > 2 && last("1h").by(tx.card).count() > 1`},
			[]string{"country transactions(country; country)[0]", "online transactions(online; online)[1]"}},
		{[]string{`last("1h").count() > 3`}, []string{"all transactions(; )[0]"}},
		{[]string{`clicks.last("1h").by(click.user, tx.card).where(click.path.startsWith("/a")).distinct(click.ip) > 3`},
			[]string{"user clicks(user; user,path,ip)[] transactions(card; card)[0]"}},
		{[]string{`click.last("1h").by(click.user, tx.country).count() > 3 && last("1h").by(tx.country).count() > 1`, `click.last("1h").by(click.ip, tx.country).count() > 1`},
			[]string{"user clicks(user; user)[] transactions(country; country)[0 1]", "ip clicks(ip; ip)[] transactions(country; country)[2]"}},
	} {
		got := describe(compileKeyed(t, c.whens...))
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.whens, got, c.want)
		}
	}
}

// TestPlan looks at where operators run, for whom, and how far back they keep events.
func TestPlan(t *testing.T) {
	p := compileKeyed(t, `last("90m").by(tx.card).count() > 3 && last("2d").by(tx.country).sum(tx.amount) > 1.0`, `click.last("1h30m5s").by(click.user, tx.country).count() > 1`)
	var got []string
	for _, o := range p.Plan() {
		keyed, _, _ := strings.Cut(o.Keyed, "-")
		got = append(got, fmt.Sprint(o.Stream, "|", o.Name, "|", o.Rules, o.Over, keyed, o.Takes, o.Keeps, o.Disk))
	}
	want := []string{
		"transactions|by(tx.card)|[r0]transactionsmap[] [1h30m] false",
		"transactions|click by(click.user) = tx.country|[r1]clicksweir.keyed.usermap[clicks:[user] transactions:[amount country]] [1h30m5s] false",
		"transactions|by(tx.country) on disk|[r0]transactionsweir.keyed.usermap[clicks:[user] transactions:[amount country]] [2d] true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestKeyedNames wants a name to change with what the records hang on, and not else.
func TestKeyedNames(t *testing.T) {
	name := func(whens ...string) string { return compileKeyed(t, whens...).Keyed()[0].Name }
	first := name(`last("1h").by(tx.country).sum(tx.amount) > 3.0`)
	if other := name(`last("30d").by(tx.country).max(tx.amount) > 1.0`); other != first {
		t.Errorf("another window over the same fields: %s and %s", first, other)
	}
	if other := name(`last("1h").by(tx.country).sum(tx.items) > 3`); other == first {
		t.Errorf("another field: %s too", first)
	}
}
