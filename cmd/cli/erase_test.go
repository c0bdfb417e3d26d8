package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestErase(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Subject string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/erase" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		switch in.Subject {
		case "known":
			_, _ = w.Write([]byte(`{"keys":2}`))
		case "broken":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"title":"x","detail":"the disk is full"}`))
		default:
			_, _ = w.Write([]byte(`{"keys":0}`))
		}
	}))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	for _, c := range []struct {
		arg, stdin string
		exit       int
		says       string
	}{
		{"known", "", exitDone, "can never be read again"},
		{"-", "known\n", exitDone, "can never be read again"},
		{"unknown", "", exitFailed, "there is no key for this subject"},
		{"broken", "", exitFailed, "the disk is full"},
		{"-", "\n", exitMistake, "the subject is empty"},
	} {
		var out bytes.Buffer
		exit := Main([]string{"erase", c.arg, "--http-addr", addr}, strings.NewReader(c.stdin), &out, &out)
		if exit != c.exit || !strings.Contains(out.String(), c.says) {
			t.Errorf("erase %s: exit %d, %q", c.arg, exit, out.String())
		}
	}
}
