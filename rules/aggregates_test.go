package rules

import (
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/engine"
)

// TestWindows evaluates every form of a window on a few events, by hand: which of
// them fire.
func TestWindows(t *testing.T) {
	at := func(minutes int) time.Duration { return time.Duration(minutes) * time.Minute }
	rows := []row{
		{"card": "a", "ts": at(0), "amount": "10", "country": "DE", "score": 52.5, "geo.city": "Berlin", "items": 1},
		{"card": "a", "ts": at(10), "amount": "20", "country": "FR", "score": 48.9, "geo.city": "Paris", "items": 2, "online": true},
		{"card": "b", "ts": at(11), "amount": "500", "country": "DE", "items": 9},
		{"card": "a", "ts": at(50), "amount": "30", "country": "DE", "geo.city": "Berlin", "items": 3},
		{"card": "a", "ts": at(65), "amount": "400", "items": 4, "online": true},
	}
	for when, want := range map[string][]int{
		`last("1h").by(tx.card).max(tx.amount) >= 400`:                                             {2, 4},
		`last("1h").by(tx.card).min(tx.amount) < 20.00`:                                            {0, 1, 3},
		`last("1h").by(tx.card).excluding_current().max(tx.amount) == 30`:                          {4},
		`last(2).by(tx.card).sum(tx.amount) == 50`:                                                 {3},
		`last(2).by(tx.card).excluding_current().sum(tx.amount) == 50`:                             {4},
		`session("20m").by(tx.card).count() == 2`:                                                  {1, 4},
		`last("10m").by(tx.card).delay("40m").count() == 1`:                                        {3},
		`last("10m").by(tx.card).delay("45m").sum(tx.amount) == 20`:                                {},
		`last("1h").by(tx.card).distinct(tx.country) == 2`:                                         {1, 3, 4},
		`last("1h").by(tx.card).is_new(tx.country)`:                                                {0, 1, 2},
		`last("1h").by(tx.card).is_new(tx.country + "!")`:                                          {0, 1, 2},
		`last("1h").by(tx.card).first(tx.country) == "FR"`:                                         {4},
		`last("1h").by(tx.card).last(tx.country) == "DE"`:                                          {0, 2, 3, 4},
		`last("2h").by(tx.card).lag(tx.amount, 1) == 20`:                                           {3},
		`last("2h").by(tx.card).lag(tx.amount, 2) == 20`:                                           {4},
		`last("2h").by(tx.card).lag(tx.amount) == 20`:                                              {3},
		`last("2h").by(tx.card).lag(tx.ts, 1) > timestamp("1970-01-01T00:30:00Z")`:                 {4},
		`last("2h").by(tx.card).topk(tx.country, 1) == ["DE"]`:                                     {0, 1, 2, 3, 4},
		`"FR" in last("2h").by(tx.card).topk(tx.country, 2)`:                                       {1, 3, 4},
		`last("2h").by(tx.card).topk(tx.items, 9).size() == 4`:                                     {4},
		`last("2h").by(tx.card).entropy(tx.country) == 1.0`:                                        {1},
		`last("2h").by(tx.card).quantile(tx.amount, 0.5) > 19.8 && tx.amount < 100`:                {3},
		`last("2h").by(tx.card).variance(tx.amount) == 50.0`:                                       {1},
		`last("2h").by(tx.card).stddev(tx.items) == 1.0`:                                           {3},
		`last("2h").by(tx.card).zscore(tx.amount) > 1.4`:                                           {4},
		`last("1h").by(tx.card).rate() > 0.0008`:                                                   {3, 4},
		`last("1h").by(tx.card).rate(tx.amount) > 0.1`:                                             {2, 4},
		`last("2h").by(tx.card).speed(tx.score, tx.score) > 100.0`:                                 {1, 3, 4},
		`last("2h").by(tx.card, tx.country).count() == 2`:                                          {3},
		`last("2h").by(tx.country, tx.card).where(tx.online).count() == 1`:                         {1},
		`last("2h").by(tx.card).where(tx.online).max(tx.amount) == 20`:                             {1, 3},
		`last("2h").by(tx.card).distinct(tx.online) == 2`:                                          {1, 3, 4},
		`last("2h").by(tx.card).first(tx.online) == false && tx.card == "a"`:                       {0, 1, 3, 4},
		`last("2h").by(tx.card).max(tx.ts) == tx.ts`:                                               {0, 1, 2, 3, 4},
		`last("2h").by(tx.card).variance(tx.amount).hasValue()`:                                    {1, 3, 4},
		`last("2h").by(tx.card).variance(tx.amount).orValue(-1.0) < 0.0`:                           {0, 2},
		`tx.amount > 15 && last("2h").by(tx.card).last(tx.country).orValue("none") == "DE"`:        {2, 3, 4},
		`last("2h").by(tx.card).min(double(tx.amount) / 2.0) < 6.0 || tx.online && tx.card == "x"`: {0, 1, 3, 4},
	} {
		p, s := compileOne(t, when)
		got := []int{}
		for _, f := range run(t, p, s, rows...) {
			got = append(got, f.Row)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s fires on %v, want %v (%s)", when, got, want, p.Rules()[0].LastError)
		}
	}
}

// TestSkippedWindows: a rule whose cheap part fails does not ask for its windows,
// and what the windows hold is the same.
func TestSkippedWindows(t *testing.T) {
	p, s := compileOne(t, `tx.amount > 100 && last("1h").by(tx.card).max(tx.amount) == 101 && last("1h").by(tx.card).count() == 3`)
	found := run(t, p, s, row{"card": "a", "amount": "1"}, row{"card": "a", "amount": "99"}, row{"card": "a", "amount": "101"}, row{"card": "a", "amount": "3"})
	if len(found) != 1 || found[0].Row != 2 {
		t.Errorf("found %+v", found)
	}
	in, err := p.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := in.(engine.Preparer); !ok {
		t.Fatal("the program has nothing to say before its windows are read")
	}
}
