// Command mock serves the console with a made-up node behind it: the REST API's
// shapes with data that looks real and moves. The console's browser tests drive
// it, and so does whoever changes the page:
//
//	go run ./dashboards/console/mock -addr 127.0.0.1:8099 -state demo
//
// States: none (no streams declared), empty (streams and nothing in them), demo
// (three streams, a few alerts a minute), heavy (20 streams, 200 rules, 5,000
// alerts and 20 more each second).
//
// POST /mock/alert raises one alert now, POST /mock/drop?ms=N cuts the live
// connections and refuses new ones for N milliseconds, POST /mock/warm?rule=ID&percent=P
// has a rule's windows made so far from the log.
//
// Invariants:
//
//  1. The page is served by console.Handler, with its real headers.
//  2. The world is one struct under one mutex; the same seed makes the same
//     streams, rules and first alerts, up to the clock.
//  3. Alerts are bounded (20,000) and so are live connections' queues.
//
// One goroutine advances the world ten times a second until the process ends;
// each live connection has the server's own goroutine. It is not part of Weir
// and imports nothing of it but the console.
package main
