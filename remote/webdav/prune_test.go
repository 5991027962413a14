package webdav_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// knownTree makes a tree of three directories with a file each, and returns what is below its
// top.
func (s *site) knownTree(t *testing.T, top string) (known []remote.Known) {
	t.Helper()
	for _, dir := range []string{top, top + "/a", top + "/a/b"} {
		if _, err := s.b.Mkdir(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		e, err := s.b.Put(t.Context(), dir+"/f", remotetest.Bytes([]byte(dir)), remote.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if dir != top {
			known = append(known, remote.Known{Path: dir, Type: remote.Dir})
		}
		known = append(known, remote.Known{Path: e.Path, Type: remote.File, Version: e.Version})
	}
	return known
}

// TestPruneFaults has each request of a pruning go wrong: the error is of the right kind, what
// was not to go is there, and the next attempt ends it.
func TestPruneFaults(t *testing.T) {
	faults := []batchFault{
		{name: "503", fault: status(503, "Retry-After", "7"), kind: remote.Unavailable},
		{name: "403", fault: status(403), kind: remote.Permission},
		{name: "423", fault: status(423), kind: remote.Locked},
		{name: "lost", fault: efss.Fault{LoseReply: true}, kind: remote.Unavailable},
		{name: "cut", fault: efss.Fault{CutReply: true, ReplyAt: 300}, kind: remote.Unavailable},
	}
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		for _, f := range faults {
			t.Run(d.String()+"/"+f.name, func(t *testing.T) {
				s := newSite(t, d)
				for at := int64(1); ; at++ {
					top := fmt.Sprintf("/t%d", at)
					known := s.knownTree(t, top)
					var n atomic.Int64
					var method atomic.Value
					s.SetFaults(func(r *http.Request) *efss.Fault {
						if i := n.Add(1); i == at || i == at+1 && r.Method == "PROPFIND" { // of a listing that is repeated, both
							method.Store(r.Method)
							return &f.fault
						}
						return nil
					})
					err := s.b.Prune(t.Context(), top, known)
					s.SetFaults(nil)
					if n.Load() < at {
						if err != nil || at < 4 {
							t.Errorf("without a fault after %d requests: %v", at-1, err)
						}
						return
					}
					s.checkPruned(t, top, known, err, f, method.Load() == http.MethodDelete)
				}
			})
		}
	}
}

// checkPruned looks at what a pruning has left that met a fault, and makes it again.
func (s *site) checkPruned(t *testing.T, top string, known []remote.Known, err error, f batchFault, deleting bool) {
	t.Helper()
	var e *remote.Error
	switch {
	case err == nil: // a listing that was repeated, or a DELETE whose answer has no body to cut
	case !errors.As(err, &e) || e.Kind != f.kind:
		t.Errorf("%s: %v, want %v", top, err, f.kind)
	case !deleting && e.Unsure:
		t.Errorf("%s: unsure of a proof: %v", top, err)
	}
	if _, there := s.b.Stat(t.Context(), top+"/a/b/f"); err != nil && !deleting && there != nil {
		t.Errorf("%s: %v, and %v", top, err, there)
	}
	if err = s.b.Prune(t.Context(), top, known); err != nil && !errors.Is(err, remote.NotExist) {
		t.Errorf("%s again: %v", top, err)
	}
	if _, err := s.b.Stat(t.Context(), top); !errors.Is(err, remote.NotExist) {
		t.Errorf("%s is left: %v", top, err)
	}
}

// TestPruneMeetsChanges has somebody else make a file deep in a tree while it is looked at:
// where directories show that by their tags it stays.
func TestPruneMeetsChanges(t *testing.T) {
	s := newSite(t, efss.Nextcloud)
	known := s.knownTree(t, "/t")
	var once atomic.Bool
	s.SetFaults(func(r *http.Request) *efss.Fault {
		// The last look, at which all listings are over.
		if r.Method == "PROPFIND" && r.Header.Get("Depth") == "0" && once.CompareAndSwap(false, true) {
			if _, err := s.b.Put(t.Context(), "/t/a/b/theirs", remotetest.Bytes([]byte("theirs")), remote.PutOptions{}); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	err := s.b.Prune(t.Context(), "/t", known)
	s.SetFaults(nil)
	if !once.Load() || !errors.Is(err, remote.Conflict) {
		t.Errorf("pruned while it was changed: %v", err)
	}
	if _, err := s.b.Stat(t.Context(), "/t/a/b/theirs"); err != nil {
		t.Error(err)
	}
}
