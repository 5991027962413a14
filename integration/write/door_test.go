package write_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
)

// door holds requests at the server until it is opened.
type door struct {
	opened chan struct{}
	once   sync.Once
	count  atomic.Int64
	asked  atomic.Int64
}

// open lets all through, now and later.
func (d *door) open() { d.once.Do(func() { close(d.opened) }) }

// entered tells whether a request waits, or has waited.
func (d *door) entered() bool { return d.count.Load() > 0 }

// first tells whether the caller is the first to ask.
func (d *door) first() bool { return d.asked.Add(1) == 1 }

func (d *door) wait() {
	d.count.Add(1)
	<-d.opened
}

// uploads tells whether a request to a share brings content.
func uploads(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/bulk")
}

// holdUploads holds what stores content at the server until the door is opened, or the test
// ends.
func (s *server) holdUploads(t *testing.T) *door {
	t.Helper()
	d := &door{opened: make(chan struct{})}
	t.Cleanup(d.open)
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			if uploadCalls(c.API) {
				d.wait()
			}
			return nil
		})
		return d
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if uploads(r) || r.Method == "MOVE" && strings.Contains(r.URL.Path, "/uploads/") {
			d.wait()
		}
		return nil
	})
	return d
}
