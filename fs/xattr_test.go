package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

const kept = memory.XattrPrefix

// setX sets an attribute, of which only the part after the prefix is given.
func (w *world) setX(path, name, value string) {
	w.t.Helper()
	w.must(w.SetXattr(w.t.Context(), path, kept+name, []byte(value), remote.XattrAny))
}

// wantX checks the attributes that the server keeps, as the file system shows them:
// "name=value" sorted, without the prefix.
func (w *world) wantX(path string, want ...string) {
	w.t.Helper()
	names, err := w.ListXattr(w.t.Context(), path)
	w.must(err)
	var got []string
	for _, name := range names {
		if short, ok := strings.CutPrefix(name, kept); ok {
			value, err := w.GetXattr(w.t.Context(), path, name)
			w.must(err)
			got = append(got, short+"="+string(value))
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("attributes of %s: %q, want %q", path, got, want)
	}
}

// serverX returns an attribute of the branch /a as the server has it.
func (w *world) serverX(path, name string) string {
	w.t.Helper()
	all, err := w.a.Xattrs(w.t.Context(), path)
	w.must(err)
	value, ok := all[kept+name]
	if !ok {
		return "<none>"
	}
	return string(value)
}

// elsewhereX sets an attribute behind the back of the file system.
func (w *world) elsewhereX(path, name, value string) {
	w.t.Helper()
	w.must(w.a.SetXattr(w.t.Context(), path, kept+name, []byte(value), remote.XattrAny))
}

func TestXattrRouting(t *testing.T) {
	w := newWorld(t, memory.Options{})
	ctx := t.Context()
	w.elsewhere("/f", "x")
	_, err := w.Mkdir(ctx, "/a/d", 0o755)
	w.must(err)
	for _, path := range []string{"/a", "/a/d", "/a/f"} {
		rel := path[len("/a"):] // the root of the branch is "/"
		if rel == "" {
			rel = "/"
		}
		w.setX(path, "one", "1")
		w.setX(path, "two", "")
		if got := w.serverX(rel, "one"); got != "1" {
			t.Errorf("%s: the server has %q", path, got)
		}
		w.wantX(path, "one=1", "two=")
		w.setX(path, "one", "another")
		w.must(w.RemoveXattr(ctx, path, kept+"two"))
		w.wantX(path, "one=another")
	}
	w.wantX("/deep/b")
	w.setX("/deep/b", "other", "branch")
	w.wantX("/deep/b", "other=branch")
	w.kind(w.SetXattr(ctx, "/deep", kept+"x", nil, 0), remote.Unsupported)
	w.kind(w.SetXattr(ctx, "/a/none", kept+"x", nil, 0), remote.NotExist)
	_, err = w.GetXattr(ctx, "/a/none", kept+"x")
	w.kind(err, remote.NotExist)
	w.kind(w.RemoveXattr(ctx, "/a/none", kept+"x"), remote.NotExist)
}

func TestXattrModes(t *testing.T) {
	w := newWorld(t, memory.Options{RefuseXattr: func(_ string, value []byte) bool { return string(value) == "bad" }})
	w.elsewhere("/f", "x")
	set := func(value string, mode remote.XattrMode) error {
		return w.SetXattr(t.Context(), "/a/f", kept+"x", []byte(value), mode)
	}
	w.kind(set("1", remote.XattrReplace), remote.NoXattr)
	w.must(set("2", remote.XattrCreate))
	w.kind(set("3", remote.XattrCreate), remote.Exist)
	w.must(set("4", remote.XattrReplace))
	w.kind(set("bad", remote.XattrAny), remote.Invalid)
	w.wantX("/a/f", "x=4")
	w.kind(w.RemoveXattr(t.Context(), "/a/f", kept+"y"), remote.NoXattr)
	_, err := w.GetXattr(t.Context(), "/a/f", kept+"y")
	w.kind(err, remote.NoXattr)
}

// No server hears of names that it cannot have.
func TestXattrForeignNames(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	s.on(func(_ context.Context, c *remote.Call, _ remote.Next) error {
		t.Errorf("the server was asked: %s", c.Op)
		return c.Fail(remote.Other, nil)
	})
	for _, name := range []string{"security.capability", "system.posix_acl_access", "user.x", "user.memory", "user.irods.x", "trusted.x"} {
		_, err := s.GetXattr(t.Context(), "/a/f", name)
		s.kind(err, remote.NoXattr)
		s.kind(s.SetXattr(t.Context(), "/a/f", name, []byte("1"), 0), remote.Unsupported)
		s.kind(s.RemoveXattr(t.Context(), "/a/f", name), remote.Unsupported)
	}
	s.kind(s.SetXattr(t.Context(), "/a/f", ownPrefix+"state", []byte("1"), 0), remote.Unsupported)
	s.kind(s.RemoveXattr(t.Context(), "/a/f", ownPrefix+"state"), remote.Unsupported)
}

func TestXattrWithoutAbility(t *testing.T) {
	w := newWorld(t, memory.Options{}, func(b *[]Branch) { (*b)[0].Backend = struct{ remote.Backend }{(*b)[0].Backend} })
	w.elsewhere("/f", "x")
	w.kind(w.SetXattr(t.Context(), "/a/f", kept+"x", nil, 0), remote.Unsupported)
	names, err := w.ListXattr(t.Context(), "/a/f")
	if err != nil || slices.Contains(names, locationsName) || !slices.Contains(names, ownPrefix+"state") {
		t.Errorf("%q, %v", names, err)
	}
	_, err = w.GetXattr(t.Context(), "/a/f", locationsName)
	w.kind(err, remote.NoXattr)
}

func TestXattrReadOnly(t *testing.T) {
	w := newWorld(t, memory.Options{}, func(b *[]Branch) { (*b)[0].ReadOnly = true })
	w.elsewhere("/f", "x")
	w.elsewhereX("/f", "x", "1")
	w.kind(w.SetXattr(t.Context(), "/a/f", kept+"x", nil, 0), remote.ReadOnly)
	w.kind(w.RemoveXattr(t.Context(), "/a/f", kept+"x"), remote.ReadOnly)
	w.wantX("/a/f", "x=1")
	w.b.SetReadOnly(true)
	w.kind(w.SetXattr(t.Context(), "/deep/b", kept+"x", nil, 0), remote.ReadOnly)
}

// What getfattr -d does costs one request while attributes may be used again.
func TestXattrRequests(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	for i := range 5 {
		s.elsewhereX("/f", fmt.Sprint(i), "v")
	}
	_, err := s.Stat(t.Context(), "/a/f")
	s.must(err)
	all := []string{"0=v", "1=v", "2=v", "3=v", "4=v"}
	asked := s.count(remote.OpXattrs)
	s.wantX("/a/f", all...)
	s.wantX("/a/f", all...)
	if n := asked(); n != 1 {
		t.Errorf("%d requests", n)
	}
	s.elsewhereX("/f", "4", "w")
	s.pass(time.Minute)
	s.wantX("/a/f", "0=v", "1=v", "2=v", "3=v", "4=w")
	s.setX("/a/f", "4", "mine")
	s.wantX("/a/f", "0=v", "1=v", "2=v", "3=v", "4=mine")
	s.must(s.RemoveXattr(t.Context(), "/a/f", kept+"4"))
	s.wantX("/a/f", all[:4]...)
	if n := asked(); n != 4 {
		t.Errorf("%d requests after changes", n)
	}
}

// Without a TTL every question goes to the server, and nothing else does.
func TestXattrUncached(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.elsewhere("/f", "x")
	s.elsewhereX("/f", "x", "1")
	var ops []remote.Op
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		ops = append(ops, c.Op)
		return next(ctx)
	})
	for _, want := range []string{"1", "2"} {
		s.elsewhereX("/f", "x", want)
		if got, err := s.GetXattr(t.Context(), "/a/f", kept+"x"); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	s.setX("/a/f", "x", "3")
	if want := []remote.Op{remote.OpXattrs, remote.OpXattrs, remote.OpSetXattr}; !slices.Equal(ops, want) {
		t.Errorf("requests %v", ops)
	}
}

// An answer that a change made here has overtaken is not kept.
func TestXattrCrossing(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.elsewhere("/f", "x")
	s.elsewhereX("/f", "x", "old")
	s.after(remote.OpXattrs, func() { s.setX("/a/f", "x", "new") })
	if got, err := s.GetXattr(t.Context(), "/a/f", kept+"x"); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	s.wantX("/a/f", "x=new")
}

// Attributes go with the object, not with the name.
func TestXattrFollowObject(t *testing.T) {
	w := newWorld(t, memory.Options{})
	ctx := t.Context()
	_, err := w.Mkdir(ctx, "/a/d", 0o755)
	w.must(err)
	w.write("/a/d/f", "f")
	w.write("/a/g", "g")
	w.setX("/a/d/f", "of", "f")
	w.setX("/a/g", "of", "g")
	w.wantX("/a/d/f", "of=f")
	w.wantX("/a/g", "of=g")
	w.must(w.Rename(ctx, "/a/d", "/a/e", 0))
	w.wantX("/a/e/f", "of=f")
	w.must(w.Rename(ctx, "/a/e/f", "/a/g", 0))
	w.wantX("/a/g", "of=f")
	w.must(w.Unlink(ctx, "/a/g"))
	w.write("/a/g", "new")
	w.wantX("/a/g")
	w.setX("/a/g", "of", "the new one")
	w.write("/a/g", "other content")
	w.wantX("/a/g", "of=the new one")
}

func TestXattrLongNames(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.elsewhere("/f", "x")
	w.elsewhereX("/f", strings.Repeat("n", 255-len(kept)), "fits")
	w.elsewhereX("/f", strings.Repeat("n", 256-len(kept)), "does not")
	w.wantX("/a/f", strings.Repeat("n", 255-len(kept))+"=fits")
}

// describing is memory whose files have these replicas.
type describing struct {
	*memory.Backend
	all []remote.Replica
}

// Replicas implements remote.Replicator.
func (d describing) Replicas(ctx context.Context, path string) ([]remote.Replica, error) {
	if _, err := d.Backend.Replicas(ctx, path); err != nil {
		return nil, err
	}
	return d.all, nil
}

func TestLocations(t *testing.T) {
	var server *remote.Observed
	s := newStrange(t, memory.Options{}, func(b *Branch) {
		inner := b.Backend.(remote.Unwrapper).Unwrap().(*memory.Backend)
		server = remote.Observe(describing{inner, []remote.Replica{
			{Number: 0, Resource: "root;disk1", Host: "host1", State: remote.ReplicaGood},
			{Number: 3, Resource: "tape", State: remote.ReplicaStale},
		}}, nil)
		b.Backend = server
	})
	asked := func() int64 { return server.Stats()[remote.OpReplicas].Calls }
	s.elsewhere("/f", "x")
	names, err := s.ListXattr(t.Context(), "/a/f")
	if err != nil || !slices.Contains(names, locationsName) || asked() != 0 {
		t.Errorf("%q, %v, %d requests", names, err, asked())
	}
	for range 2 {
		got, err := s.GetXattr(t.Context(), "/a/f", locationsName)
		if want := "0 root;disk1 good host1\n3 tape stale"; err != nil || string(got) != want || asked() != 1 {
			t.Errorf("%q, %v, %d requests", got, err, asked())
		}
	}
	s.write("/a/f", "more")
	s.settle()
	if _, err := s.GetXattr(t.Context(), "/a/f", locationsName); err != nil || asked() != 2 {
		t.Errorf("after a change: %v, %d requests", err, asked())
	}
	_, err = s.GetXattr(t.Context(), "/a", locationsName)
	s.kind(err, remote.NoXattr)
	if names, err := s.ListXattr(t.Context(), "/a"); err != nil || slices.Contains(names, locationsName) {
		t.Errorf("of a directory: %q, %v", names, err)
	}
	_, err = s.GetXattr(t.Context(), "/a/none", locationsName)
	s.kind(err, remote.NotExist)
	h, _, err := s.Create(t.Context(), "/a/new", syscall.O_WRONLY, 0o644)
	s.must(err)
	_, err = s.GetXattr(t.Context(), "/a/new", locationsName)
	s.kind(err, remote.NoXattr)
	s.must(h.Flush(t.Context()))
	h.Release()
}

// Many use the attributes of a few files that are renamed meanwhile.
func TestXattrStress(t *testing.T) {
	w := newWorld(t, memory.Options{})
	w.write("/a/f0", "x")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for round := range 50 {
				path, value := fmt.Sprintf("/a/f%d", round%2), fmt.Sprint(round)
				name := kept + fmt.Sprint(i)
				if w.SetXattr(t.Context(), path, name, []byte(value), remote.XattrAny) == nil {
					_, _ = w.GetXattr(t.Context(), path, name)
				}
				_ = w.Rename(t.Context(), path, fmt.Sprintf("/a/f%d", (round+1)%2), 0)
				_, _ = w.ListXattr(t.Context(), path)
			}
		})
	}
	all.Wait()
	for _, path := range []string{"/a/f0", "/a/f1"} {
		onServer, err := w.a.Xattrs(t.Context(), path[len("/a"):])
		if err != nil {
			continue // the name that it has not now
		}
		for name, want := range onServer {
			if got, err := w.GetXattr(t.Context(), path, name); err != nil || string(got) != string(want) {
				t.Errorf("%s of %s: %q, %v, the server has %q", name, path, got, err, want)
			}
		}
	}
}
