package httpin

import (
	"encoding/json"
	"net/http"
)

// errorsMax is how many refused events an answer describes.
const errorsMax = 100

// Answer is what became of a request's events.
type Answer struct {
	Accepted int64     `json:"accepted"`
	Refused  int64     `json:"refused"`
	Errors   []Refusal `json:"errors"`  // the first 100
	Offsets  []Run     `json:"offsets"` // where the accepted ones are
	// Incomplete is why the body's end could not be read, such as a gzip that ends
	// too early. What is whole before it was taken.
	Incomplete string `json:"incomplete,omitempty"`

	repeated bool
}

// Refusal is why an event was refused. It is in weir.deadletters.
type Refusal struct {
	Event  int64  `json:"event"` // its number in the body, from 1
	Line   int64  `json:"line"`  // where it begins in the body, from 1
	Column int    `json:"column,omitempty"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// Run is a run of offsets, First and Last included.
type Run struct {
	Partition int32 `json:"partition"`
	First     int64 `json:"first"`
	Last      int64 `json:"last"`
}

// write answers 200 where an event was accepted or there was none, else 422.
func (a *Answer) write(w http.ResponseWriter) int {
	status := http.StatusOK
	if a.Accepted == 0 && (a.Refused > 0 || a.Incomplete != "") {
		status = http.StatusUnprocessableEntity
	}
	if a.Errors == nil {
		a.Errors = []Refusal{}
	}
	if a.Offsets == nil {
		a.Offsets = []Run{}
	}
	w.Header().Set("Content-Type", "application/json")
	if a.repeated {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // a client that has gone does not read it
	return status
}

// problem is an answer after RFC 9457.
type problem struct {
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
	Errors []located `json:"errors,omitempty"`
	header http.Header
}

type located struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func (p *problem) write(w http.ResponseWriter) int {
	p.Title = http.StatusText(p.Status)
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
	return p.Status
}

// busy is the answer where a limit on what is in flight is reached.
func busy(why string) *problem {
	return &problem{Status: http.StatusTooManyRequests, Detail: why + "; send it again in a second", header: http.Header{"Retry-After": {"1"}}}
}
