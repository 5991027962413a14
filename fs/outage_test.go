package fs

import (
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// While a server is out of reach its branch still shows in the directory above;
// what is in the branch fails.
func TestRootOfBranchShowsInOutage(t *testing.T) {
	var srv *remotetest.FaultyBackend
	w := newWorld(t, memory.Options{}, func(b *[]Branch) {
		srv = remotetest.Faulty((*b)[0].Backend, remotetest.Plan{})
		(*b)[0].Backend, (*b)[0].AttrTTL = srv, 0
	})
	srv.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{P: 1, Fault: remotetest.FaultError, Kind: remote.Unavailable}}})
	if a, err := w.Stat(t.Context(), "/a"); err != nil || a.Type != remote.Dir || a.TTL != 0 {
		t.Errorf("root of the branch: %+v %v", a, err)
	}
	if got := w.names("/"); !slices.Equal(got, []string{"a", "deep"}) {
		t.Errorf("root holds %v", got)
	}
	_, err := w.Stat(t.Context(), "/a/f")
	w.kind(err, remote.Unavailable)
	srv.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{P: 1, Fault: remotetest.FaultError, Kind: remote.Auth}}})
	_, err = w.Stat(t.Context(), "/a")
	w.kind(err, remote.Auth)
	srv.SetPlan(remotetest.Plan{})
}

func TestLongNames(t *testing.T) {
	w := newWorld(t, memory.Options{})
	_, err := w.Stat(t.Context(), "/a/"+strings.Repeat("n", 256))
	w.kind(err, remote.NameTooLong)
	w.write("/a/"+strings.Repeat("n", 255), "x")
}
