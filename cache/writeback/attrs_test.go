package writeback

import (
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestAttributesOnTheirWay wants all attributes that are pending to show, those that are
// being set as well as those that wait for them, whoever asks, and what the server has
// with those on top.
func TestAttributesOnTheirWay(t *testing.T) {
	w := newSite(t, memory.Options{AttrVersions: true}, Policy{})
	ctx := context.Background()
	w.s.Start()
	w.put("/f", "content")
	w.flush()
	was, err := w.b.Stat(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpSetAttr}, Latency: 100 * time.Millisecond, Count: 1}}})
	mode, when := uint32(0o600), time.Unix(1e9, 0)
	set := func(a remote.Attrs) remote.Entry {
		t.Helper()
		e, err := w.b.SetAttrs(ctx, was, a)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := set(remote.Attrs{Mode: &mode})
	eventually(t, "it is under way", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
	second := set(remote.Attrs{MTime: &when})
	stat, err := w.b.Stat(ctx, "/f")
	if err != nil {
		t.Fatal(err)
	}
	var listed remote.Entry
	if err := w.b.List(ctx, "/", func(e remote.Entry) error { listed = e; return nil }); err != nil {
		t.Fatal(err)
	}
	if first.Mode != mode {
		t.Errorf("set: mode %o", first.Mode)
	}
	for what, e := range map[string]remote.Entry{"set": second, "stat": stat, "list": listed, "clad": w.b.Clad(was)} {
		if e.Mode != mode || !e.MTime.Equal(when) {
			t.Errorf("%s: mode %o, time %v", what, e.Mode, e.MTime)
		}
	}
	w.flush()
	now, ok := w.b.Reattributed("/f", was.Version)
	if stat, err = w.b.Stat(ctx, "/f"); err != nil || !ok || now.Version != stat.Version || now.Mode != mode || !now.MTime.Equal(when) {
		t.Errorf("became %+v, the server has %+v (%v)", now, stat, err)
	}
	if got := w.b.Clad(was); got != was {
		t.Errorf("nothing is pending, and it shows %+v instead of %+v", got, was)
	}
}

// TestContentAsideIsNotAtItsName wants a local version whose content went aside not to be
// taken for what is at its name, which is somebody else's.
func TestContentAsideIsNotAtItsName(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	e := w.put("/f", "ours")
	if _, err := w.server.Put(context.Background(), "/f", remotetest.Bytes([]byte("theirs")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	w.s.Start()
	w.flush()
	if now, ok := w.b.Reattributed("/f", e.Version); ok {
		t.Errorf("it is taken for %+v", now)
	}
	if now, ok := w.b.Became(e.Version); !ok || now.Path == "/f" {
		t.Errorf("it became %+v, %v", now, ok)
	}
}

// TestAttributesThatAreNotKeptInTurn sets attributes that the server does not keep while
// others are on their way: the last ones are told last.
func TestAttributesThatAreNotKeptInTurn(t *testing.T) {
	w := newSite(t, memory.Options{NoMode: true}, Policy{})
	ctx := context.Background()
	told := make(chan Settled, 10)
	w.b.OnSettled(func(s Settled) { told <- s })
	e := w.put("/f", "content")
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpPut, remote.OpSetAttr}, Latency: 50 * time.Millisecond, Count: 2}}})
	w.s.Start()
	for i, mode := range []uint32{0o700, 0o600} {
		eventually(t, "the change before is under way", func() bool { return w.s.Status().Branches[0].Uploading == 1 })
		if i == 1 {
			eventually(t, "the content is stored", func() bool { _, ok := w.b.Became(e.Version); return ok })
			if e, ok := w.b.Became(e.Version); !ok || IsLocal(e.Version) {
				t.Fatal(e)
			}
		}
		if now, ok := w.b.Became(e.Version); ok {
			e = now
		}
		if _, err := w.b.SetAttrs(ctx, e, remote.Attrs{Mode: &mode}); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	w.b.Told()
	var last *uint32
	for len(told) > 0 {
		if s := <-told; s.Attrs.Mode != nil {
			last = s.Attrs.Mode
		}
	}
	if last != nil && *last != 0o600 {
		t.Errorf("told at last: mode %o", *last)
	}
}

// TestNoSymlinks: what the server is known not to keep is refused at once, not parked later.
func TestNoSymlinks(t *testing.T) {
	w := newSite(t, memory.Options{NoSymlinks: true}, Policy{})
	w.s.Start()
	if _, err := w.b.MakeLink(t.Context(), "/l", "f"); err == nil || remote.KindOf(err) != remote.Unsupported {
		t.Errorf("%v", err)
	}
	if items := w.s.Status().Items; len(items) > 0 {
		t.Errorf("pending: %+v", items)
	}
	hasNot(t, w.b, "/l")
}
