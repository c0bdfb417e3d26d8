package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

func demoStreams() []*stream {
	return []*stream{
		{Name: "transactions", Topic: "transactions", Alias: "tx", Partitions: 4, Format: "json", Key: "card", Time: "ts", base: 212, Fields: []field{
			{Name: "id", Type: "string"}, {Name: "ts", Type: "timestamp", Layout: "rfc3339"}, {Name: "card", Type: "string"}, {Name: "terminal", Type: "string"},
			{Name: "merchant", Type: "string", Optional: true, From: "merchant.name"}, {Name: "amount", Type: "decimal(2)"}, {Name: "country", Type: "string", Optional: true}}},
		{Name: "clicks", Topic: "clicks", Alias: "click", Partitions: 2, Format: "json", Key: "visitor", Time: "ts", base: 61, Fields: []field{
			{Name: "ts", Type: "timestamp", Layout: "rfc3339"}, {Name: "visitor", Type: "string"}, {Name: "path", Type: "string"}, {Name: "status", Type: "int64"},
			{Name: "new_device", Type: "bool", Optional: true}, {Name: "user_agent", Type: "string", Optional: true}}},
		{Name: "ticks", Topic: "ticks", Alias: "tick", Partitions: 4, Format: "csv", Key: "symbol", Time: "recv", base: 4180, Fields: []field{
			{Name: "recv", Type: "timestamp", From: "recv_ns", Layout: "unix_ns"}, {Name: "venue", Type: "string"}, {Name: "symbol", Type: "string"}, {Name: "type", Type: "string"},
			{Name: "price", Type: "decimal(2)", Optional: true}, {Name: "qty", Type: "double", Optional: true}, {Name: "bid", Type: "decimal(2)", Optional: true}, {Name: "ask", Type: "decimal(2)", Optional: true}}},
	}
}

func cents(r *rand.Rand, low, high int) string {
	n := low*100 + r.IntN((high-low)*100)
	return fmt.Sprintf("%d.%02d", n/100, n%100)
}

func card(r *rand.Rand) string { return strconv.Itoa(100 + r.IntN(4900)) }

func visitor(r *rand.Rand) string { return fmt.Sprintf("v%012x", r.Uint64()>>16) }

func quoted(s string) string { return strconv.Quote(s) }

func demoRules() []*rule {
	return []*rule{
		{ID: "card-testing", Stream: "transactions", Action: "review", Severity: "high", Mode: "live", Score: 60, File: "rules/cards.yaml", Line: 1, weight: 22,
			When:        "tx.amount >= 200 &&\nlast(\"1h\").by(tx.card).where(tx.amount < 5).count() >= 3 &&\n!(tx.merchant in list(\"trusted-merchants\"))",
			Message:     `"card " + tx.card + " tested, then " + string(tx.amount)`,
			Description: "Three or more tiny payments within an hour, then a large one.",
			raise: func(r *rand.Rand) (string, string, []value) {
				k, amount, n := card(r), cents(r, 200, 900), 3+r.IntN(6)
				return k, "card " + k + " tested, then " + amount, []value{{"tx.amount", quoted(amount)}, {`last("1h").by(tx.card).where(tx.amount < 5).count()`, strconv.Itoa(n)}, {"tx.merchant", quoted(fmt.Sprintf("m-%04d", r.IntN(900)))}, {"tx.card", quoted(k)}}
			}},
		{ID: "large-amount", Stream: "transactions", Action: "alert", Severity: "medium", Mode: "live", Score: 35, File: "rules/cards.yaml", Line: 18, weight: 34,
			When: "tx.amount > 220", Message: `"payment of " + string(tx.amount) + " at terminal " + tx.terminal`,
			raise: func(r *rand.Rand) (string, string, []value) {
				k, amount, terminal := card(r), cents(r, 220, 2400), strconv.Itoa(r.IntN(10000))
				return k, "payment of " + amount + " at terminal " + terminal, []value{{"tx.amount", quoted(amount)}, {"tx.terminal", quoted(terminal)}}
			}},
		{ID: "card-velocity", Stream: "transactions", Action: "review", Severity: "medium", Mode: "live", Score: 45, File: "rules/cards.yaml", Line: 27, weight: 18,
			When: `last("1h").by(tx.card).count() >= 4`, Message: `"card " + tx.card + " used " + string(last("1h").by(tx.card).count()) + " times in an hour"`,
			raise: func(r *rand.Rand) (string, string, []value) {
				k, n := card(r), strconv.Itoa(4+r.IntN(5))
				return k, "card " + k + " used " + n + " times in an hour", []value{{`last("1h").by(tx.card).count()`, n}, {"tx.card", quoted(k)}}
			}},
		{ID: "terminal-compromised", Stream: "transactions", Action: "decline", Severity: "critical", Mode: "live", Score: 95, File: "rules/terminals.yaml", Line: 1, weight: 4,
			When:        "last(\"7d\").by(tx.terminal).where(tx.amount > 150).count() >= 12 &&\ntx.amount > 3.0 * last(\"30d\").by(tx.terminal).mean(tx.amount)",
			Message:     `"terminal " + tx.terminal + " looks compromised"`,
			Description: "Far more large payments at one terminal than it has ever seen.",
			raise: func(r *rand.Rand) (string, string, []value) {
				k, terminal := card(r), strconv.Itoa(r.IntN(10000))
				return k, "terminal " + terminal + " looks compromised", []value{{`last("7d").by(tx.terminal).where(tx.amount > 150).count()`, strconv.Itoa(12 + r.IntN(30))},
					{"tx.amount", quoted(cents(r, 300, 1900))}, {`last("30d").by(tx.terminal).mean(tx.amount)`, fmt.Sprintf("%.13f", 40+r.Float64()*30)}, {"tx.terminal", quoted(terminal)}}
			}},
		{ID: "spend-spike", Stream: "transactions", Action: "alert", Severity: "low", Mode: "live", Score: 20, File: "rules/cards.yaml", Line: 36, weight: 8, Errors: 17,
			LastError: `rules/cards.yaml:38:24: division by zero: last("30d").by(tx.card).sum(tx.amount) is 0 at transactions/2 offset 48,113`,
			When:      `tx.amount / last("30d").by(tx.card).sum(tx.amount) > 0.8`, Message: `"most of a month's spend at once"`,
			raise: func(r *rand.Rand) (string, string, []value) {
				return card(r), "most of a month's spend at once", []value{{"tx.amount", quoted(cents(r, 80, 700))}, {`last("30d").by(tx.card).sum(tx.amount)`, quoted(cents(r, 100, 800))}}
			}},
		{ID: "account-takeover", Stream: "clicks", Action: "decline", Severity: "critical", Mode: "live", Score: 90, File: "rules/accounts.yaml", Line: 1, weight: 3,
			When: "click.path == \"/account/payout\" && click.new_device &&\nlast(\"30m\").by(click.visitor).where(click.path.startsWith(\"/login\")).count() >= 1", Message: `"payout details changed from a new device"`,
			raise: func(r *rand.Rand) (string, string, []value) {
				k := visitor(r)
				return k, "payout details changed from a new device", []value{{"click.path", `"/account/payout"`}, {"click.new_device", "true"}, {`last("30m").by(click.visitor).where(click.path.startsWith("/login")).count()`, strconv.Itoa(1 + r.IntN(4))}, {"click.visitor", quoted(k)}}
			}},
		{ID: "click-burst", Stream: "clicks", Action: "alert", Severity: "low", Mode: "live", Score: 10, File: "rules/accounts.yaml", Line: 14, weight: 14,
			When: `last("1m").by(click.visitor).count() > 120`, Message: `"visitor " + click.visitor + " clicks like a machine"`,
			raise: func(r *rand.Rand) (string, string, []value) {
				k := visitor(r)
				return k, "visitor " + k + " clicks like a machine", []value{{`last("1m").by(click.visitor).count()`, strconv.Itoa(121 + r.IntN(400))}}
			}},
		{ID: "crossed-book", Stream: "ticks", Action: "alert", Severity: "high", Mode: "live", Score: 70, File: "rules/market.yaml", Line: 1, weight: 10,
			When: `tick.type == "quote" && tick.bid >= tick.ask`, Message: `tick.symbol + " is crossed on " + tick.venue`,
			raise: func(r *rand.Rand) (string, string, []value) {
				symbol := []string{"BTCUSD_PERP", "ETHUSD_PERP", "BTCUSDT", "ETHUSDT"}[r.IntN(4)]
				bid := 61804 + r.IntN(90)
				return symbol, symbol + " is crossed on cm", []value{{"tick.type", `"quote"`}, {"tick.bid", quoted(fmt.Sprintf("%d.80", bid))}, {"tick.ask", quoted(fmt.Sprintf("%d.70", bid))}, {"tick.symbol", quoted(symbol)}, {"tick.venue", `"cm"`}}
			}},
		{ID: "price-jump", Stream: "ticks", Action: "alert", Severity: "medium", Mode: "live", Score: 40, File: "rules/market.yaml", Line: 9, weight: 9, NoData: 41,
			When: `tick.price > 1.004 * last("1m").by(tick.symbol).mean(tick.price)`, Message: `tick.symbol + " jumped to " + string(tick.price)`,
			raise: func(r *rand.Rand) (string, string, []value) {
				price := fmt.Sprintf("%d.10", 61900+r.IntN(400))
				return "BTCUSDT", "BTCUSDT jumped to " + price, []value{{"tick.price", quoted(price)}, {`last("1m").by(tick.symbol).mean(tick.price)`, fmt.Sprintf("%.11f", 61600+r.Float64()*90)}}
			}},
		{ID: "night-abroad", Stream: "transactions", Action: "review", Severity: "medium", Mode: "shadow", Score: 30, File: "rules/cards.yaml", Line: 44,
			When: `tx.country != "FR" && tx.ts.getHours("UTC") <= 6`, Message: `"abroad at night"`, Fired: 812},
		{ID: "refund-loop", Stream: "transactions", Action: "alert", Severity: "low", Mode: "off", Score: 15, File: "rules/cards.yaml", Line: 52,
			When: `tx.amount < 0 && last("24h").by(tx.card).where(tx.amount < 0).sum(tx.amount) < -500`, Message: `"refunds of one card add up"`},
	}
}

var heavyNames = []string{"transactions", "clicks", "ticks", "logins", "transfers", "refunds", "chargebacks", "authorisations", "device-prints", "orders",
	"baskets", "payouts", "kyc-checks", "orders-eu", "orders-us", "quotes", "fills", "cancels", "wallet-moves", "support-calls"}

func heavyStreams() []*stream {
	out := demoStreams()
	for i, name := range heavyNames[3:] {
		out = append(out, &stream{Name: name, Topic: "prod." + name + ".v1", Alias: "e", Partitions: 2 + i%7, Format: []string{"json", "csv"}[i%2], Key: "account", Time: "ts", base: float64(40 + i*i*23),
			Fields: []field{{Name: "ts", Type: "timestamp", Layout: "unix_ms"}, {Name: "account", Type: "string"}, {Name: "amount", Type: "decimal(4)", Optional: true}, {Name: "ip", Type: "string", Optional: true}}})
	}
	return out
}

func heavyRules(n int) []*rule {
	out := demoRules()
	actions, severities := []string{"alert", "review", "alert", "decline"}, []string{"low", "medium", "medium", "high", "low", "critical", "medium"}
	for i := len(out); i < n; i++ {
		stream, span, floor := heavyNames[3+i%17], []string{"10m", "1h", "24h", "7d"}[i%4], 3+i%9
		window := fmt.Sprintf(`last("%s").by(e.account).where(e.amount > %d).count()`, span, 50+i*3)
		r := &rule{ID: fmt.Sprintf("%s-velocity-%03d", stream, i), Stream: stream, Action: actions[i%4], Severity: severities[i%7], Mode: "live", Score: float64(5 + i%90), File: "rules/" + stream + ".yaml", Line: 1 + i/17*9, weight: 1,
			When: fmt.Sprintf("e.amount > %d.50 && %s >= %d && has(e.ip)", 20+i, window, floor), Message: `"account " + e.account + " moves fast"`}
		if i%11 == 0 {
			r.Mode, r.weight = "shadow", 0
		}
		if i%37 == 0 {
			r.Errors, r.LastError = int64(i), fmt.Sprintf("%s:%d:9: no such overload: decimal(4) > string", r.File, r.Line+2)
		}
		r.raise = func(rn *rand.Rand) (string, string, []value) {
			k := fmt.Sprintf("A%08d", rn.IntN(100_000_000))
			return k, "account " + k + " moves fast", []value{{"e.amount", quoted(cents(rn, 20+i, 4000))}, {window, strconv.Itoa(floor + rn.IntN(9))}, {"e.account", quoted(k)}}
		}
		out = append(out, r)
	}
	return out
}
