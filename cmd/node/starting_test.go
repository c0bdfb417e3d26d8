package node

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// TestQueryWhileOpening: queries wait for the SQL database, but not for ever, and are
// then told why.
func TestQueryWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{sqlOpen: make(chan struct{})}
		began := time.Now()
		_, err := n.query(t.Context(), "SELECT 1")
		if time.Since(began) != sqlOpenWait {
			t.Errorf("waited for %v", time.Since(began))
		}
		for _, told := range []error{queryError(err), ownQueryError(err)} {
			var status huma.StatusError
			if !errors.As(told, &status) || status.GetStatus() != http.StatusServiceUnavailable {
				t.Errorf("told %v", told)
			}
		}
		if got := n.freshness(); got != nil {
			t.Errorf("freshness %v of a database that is not open", got)
		}
	})
}
