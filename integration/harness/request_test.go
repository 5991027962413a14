package harness

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestSend is refused twice because of somebody else's transfer, and sends its body
// every time; what is refused for another cause is not sent again.
func TestSend(t *testing.T) {
	for _, last := range []int{http.StatusCreated, http.StatusForbidden} {
		var bodies []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			bodies = append(bodies, string(body))
			if len(bodies) < 3 {
				w.WriteHeader(http.StatusLocked)
				return
			}
			w.WriteHeader(last)
		}))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/file", strings.NewReader("content"))
		if err != nil {
			t.Fatal(err)
		}
		answer := Send(t, r)
		server.Close()
		if answer.StatusCode != last || !slices.Equal(bodies, []string{"content", "content", "content"}) {
			t.Errorf("%s after %q", answer.Status, bodies)
		}
	}
}
