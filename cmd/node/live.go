package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// liveAlertsPerSecond is how many alerts a second the live view shows; the rest
// are counted in the event `left_out`.
const liveAlertsPerSecond = 20

// serveLive is a stream of server-sent events: `overview` once a second, `alert`
// for each new alert, `left_out` with a number where alerts came too fast.
func (n *Node) serveLive(w http.ResponseWriter, r *http.Request) {
	watcher, err := n.desk.watch()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer n.desk.unwatch(watcher)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := eventStream{w: w, control: http.NewResponseController(w)}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown, left := 0, int64(0)
	out.send("overview", n.overview())
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			if n.draining.Load() {
				return // the browser connects again, to whoever comes next
			}
			out.send("overview", n.overview())
			if left += n.desk.leftOut(watcher); left > 0 {
				out.send("left_out", left)
			}
			shown, left = 0, 0
		case alert := <-watcher.alerts:
			if shown == liveAlertsPerSecond {
				left++
				continue
			}
			shown++
			out.send("alert", alert)
		}
	}
}

// eventStream writes server-sent events until the first error.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

// sendTimeout bounds a write to a console that no longer reads.
const sendTimeout = 5 * time.Second

func (s *eventStream) send(name string, value any) {
	if s.err != nil {
		return
	}
	data, err := json.Marshal(value)
	if err == nil {
		err = s.control.SetWriteDeadline(time.Now().Add(sendTimeout))
	}
	if err == nil {
		_, err = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, data)
	}
	if err == nil {
		err = s.control.Flush()
	}
	s.err = err
}

// promLog gives the metrics handler's errors to the node's log.
type promLog struct{ logger *slog.Logger }

func (p promLog) Println(v ...any) { p.logger.Error("metrics", "error", fmt.Sprint(v...)) }
