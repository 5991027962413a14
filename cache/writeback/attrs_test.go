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
