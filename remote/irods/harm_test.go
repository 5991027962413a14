package irods

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// These tests are about what a write must not do to what is not its own.

// fresh is the condition of a new file.
var fresh = remote.PutOptions{Cond: remote.Cond{NotExist: true}}

func upon(e remote.Entry) remote.PutOptions {
	return remote.PutOptions{Cond: remote.Cond{Version: e.Version, Provisional: e.Provisional}}
}

// farAway returns options by which one call is faster than three.
func farAway(t *testing.T, z *zone.Zone) Options {
	t.Helper()
	proxy := remotetest.NewProxy(t, z.Addr())
	proxy.SetLatency(10 * time.Millisecond)
	return options(z, proxy.Addr())
}

// once returns a hook that does something in place of the nth call of an API by alice, or
// before it.
func once(api, nth int, f func() *zone.Fault) func(zone.Call) *zone.Fault {
	var seen atomic.Int32
	return func(c zone.Call) *zone.Fault {
		if c.API != api || c.User != "alice" || int(seen.Add(1)) != nth {
			return nil
		}
		return f()
	}
}

// editor is a client of another user who may write in alice's home.
func editor(t *testing.T, z *zone.Zone) *raw {
	t.Helper()
	alice := connect(t, z, "alice")
	alice.grant("own", "rods", z.Home("alice"))
	alice.do(&wire.Call{API: wire.APIModAccessControl, In: &wire.ModAccessControlInp{Level: "inherit", Path: z.Home("alice")}})
	return connect(t, z, "rods")
}

// TestCreateSeesAllResources makes files that exist on another resource than the one for
// new files.
func TestCreateSeesAllResources(t *testing.T) {
	z := startZone(t, zone.Options{})
	alice := connect(t, z, "alice")
	alice.put(z.Home("alice")+"/f", "theirs", on("demoResc"))
	for _, opts := range []Options{options(z, z.Addr()), farAway(t, z)} {
		opts.Resource = "resc2"
		b := dial(t, opts)
		_, err := b.Put(t.Context(), "/f", text("ours"), fresh)
		wantKind(t, err, remote.Exist, "a new file")
		_, err = b.Put(t.Context(), "/f", text(strings.Repeat("x", pieceSize+1)), fresh)
		wantKind(t, err, remote.Exist, "a new large file")
		_, err = b.Symlink(t.Context(), "/f", "target")
		wantKind(t, err, remote.Exist, "a new link")
		if got := alice.replicas("f"); got != "0 1 6" || contentOf(t, b, "/f") != "theirs" {
			t.Errorf("afterwards there are %s", got)
		}
		if e := put(t, b, "/f", "second", upon(stat(t, b, "/f"))); e.Size != 6 || alice.replicas("f") != "0 1 6" {
			t.Errorf("an overwrite leaves %s", alice.replicas("f"))
		}
		put(t, b, "/f", "theirs", remote.PutOptions{})
	}
}

// TestServerComparesBytes sends what does not have the checksum that goes with it.
func TestServerComparesBytes(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	full := b.full("/f")
	_, err := alice.try(b.putCall(full, []byte("garbled"), checksumOf([]byte("content")), 0o644))
	if code(err) != wire.CodeChecksum {
		t.Errorf("a put: %v", err)
	}
	if got := alice.replicas("f"); got != "0 0 7" {
		t.Errorf("it left %s", got)
	}
	in := b.createInput(b.full("/g"), 7, 0o644)
	expect(in, checksumOf([]byte("content")))
	desc := alice.do(&wire.Call{API: wire.APIDataObjOpen, In: in}).Status
	alice.write(desc, "garbled")
	if _, err := alice.try(closeCall(desc)); code(err) != wire.CodeChecksum {
		t.Errorf("a close: %v", err)
	}
	if got := alice.replicas("g"); got != "0 0 7" {
		t.Errorf("it left %s", got)
	}
}

// TestOtherChecksums meets a zone that takes one kind of checksum only, and not ours: the
// server is not asked to compare any more.
func TestOtherChecksums(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	b.pace.saw(time.Microsecond) // near
	old := put(t, b, "/old", "content", fresh)
	var refusals atomic.Int32
	z.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == wire.APIDataObjPut && refusals.Add(1) == 1 {
			return &zone.Fault{Code: wire.CodeHashType}
		}
		return nil
	})
	if e := put(t, b, "/old", "new content", upon(old)); e.Size != 11 || contentOf(t, b, "/old") != "new content" {
		t.Errorf("%+v", e)
	}
	if !b.plain.Load() || refusals.Load() != 2 {
		t.Errorf("%d puts, plain %v", refusals.Load(), b.plain.Load())
	}
	if e := put(t, b, "/new", "content", fresh); e.Checksum.Hex == "" || refusals.Load() != 2 {
		t.Errorf("%+v after %d puts", e, refusals.Load())
	}
	b.plain.Store(false)
	z.SetFaults(once(wire.APIDataObjClose, 1, func() *zone.Fault { return &zone.Fault{Code: wire.CodeHashType} }))
	if e := put(t, b, "/newer", "content", fresh); e.Checksum.Hex == "" || !b.plain.Load() {
		t.Errorf("%+v, plain %v", e, b.plain.Load())
	}
}

// TestEmptyOverReplicas overwrites with nothing: no replica may keep the old bytes as good.
func TestEmptyOverReplicas(t *testing.T) {
	z := startZone(t, zone.Options{})
	alice := connect(t, z, "alice")
	b := dial(t, options(z, z.Addr()))
	e := put(t, b, "/f", "content", fresh)
	alice.replicate(b.full("/f"), "resc2")
	if e = put(t, b, "/f", "", upon(e)); e.Size != 0 {
		t.Errorf("%+v", e)
	}
	if got := alice.replicas("f"); got != "0 1 0, 1 0 7" {
		t.Errorf("the replicas are %s", got)
	}
}

// TestTimesThatDoNotFit sets times that the server refuses. They are dropped.
func TestTimesThatDoNotFit(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for i, when := range []time.Time{time.Unix(-1, 0), time.Unix(1<<31, 0), time.Unix(1<<33, 0)} {
		begin := time.Now().Add(-2 * time.Second)
		path := "/f" + string(rune('0'+i))
		opts := remote.PutOptions{Attrs: remote.Attrs{MTime: &when}}
		if e := put(t, b, path, "content", opts); e.MTime.Before(begin) || e.MTime.After(time.Now().Add(2*time.Second)) {
			t.Errorf("%v became %v", when, e.MTime)
		}
		e, err := b.SetAttr(t.Context(), path, remote.Attrs{MTime: &when})
		if err != nil || e.Path != path || e.MTime.Before(begin) || e.MTime.After(time.Now().Add(2*time.Second)) {
			t.Errorf("%v became %+v, %v", when, e, err)
		}
	}
	for _, when := range []time.Time{time.Unix(0, 0), time.Unix(1<<31-1, 0)} {
		if e, err := b.SetAttr(t.Context(), "/f0", remote.Attrs{MTime: &when}); err != nil || !e.MTime.Equal(when) {
			t.Errorf("%v became %v, %v", when, e.MTime, err)
		}
	}
}

// TestRefusedPutTouchesNothing has a Put with a time refused because of what is there.
func TestRefusedPutTouchesNothing(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, farAway(t, z))
	put(t, b, "/f", "theirs", fresh)
	before := stat(t, b, "/f")
	old := time.Unix(1e9, 0)
	opts := fresh
	opts.Attrs.MTime = &old
	_, err := b.Put(t.Context(), "/f", text("ours"), opts)
	wantKind(t, err, remote.Exist, "a new file")
	if after := stat(t, b, "/f"); after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestOtherReplicaIsNewer sets the time of a file whose second replica is younger than the
// first: the server would take that one.
func TestOtherReplicaIsNewer(t *testing.T) {
	z := startZone(t, zone.Options{})
	alice := connect(t, z, "alice")
	b := dial(t, options(z, z.Addr()))
	put(t, b, "/f", "content", fresh)
	alice.replicate(b.full("/f"), "resc2")
	younger, err := touchCall(b.full("/f"), time.Unix(2e9, 0), 1)
	if err != nil {
		t.Fatal(err)
	}
	alice.do(younger)
	when := time.Unix(1e9, 0)
	if e, err := b.SetAttr(t.Context(), "/f", remote.Attrs{MTime: &when}); err != nil || !e.MTime.Equal(when) {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestLostPutThenTheirs loses the connection before an overwrite, and somebody else writes
// meanwhile: their content stays, also when the overwrite is tried again.
func TestLostPutThenTheirs(t *testing.T) {
	z := startZone(t, zone.Options{})
	rods := editor(t, z)
	b := dial(t, options(z, z.Addr()))
	e := put(t, b, "/f", "base", fresh)
	z.SetFaults(once(wire.APIDataObjPut, 1, func() *zone.Fault {
		rods.put(b.full("/f"), "theirs")
		return &zone.Fault{Kill: true}
	}))
	_, err := remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond}).Put(t.Context(), "/f", text("ours"), upon(e))
	wantKind(t, err, remote.Conflict, "the overwrite")
	if got := contentOf(t, b, "/f"); got != "theirs" {
		t.Errorf("it holds %q", got)
	}
}

// TestWrittenSince has somebody else overwrite a new file before the result was looked at.
func TestWrittenSince(t *testing.T) {
	z := startZone(t, zone.Options{})
	rods := editor(t, z)
	b := dial(t, options(z, z.Addr()))
	b.pace.saw(time.Microsecond) // near
	// Four questions before the file is made, and four after.
	z.SetFaults(once(wire.APIGenQuery, 5, func() *zone.Fault {
		rods.put(b.full("/f"), "theirs, and longer")
		return nil
	}))
	_, err := b.Put(t.Context(), "/f", text("ours"), fresh)
	wantKind(t, err, remote.Exist, "the new file")
	if got := contentOf(t, b, "/f"); got != "theirs, and longer" {
		t.Errorf("it holds %q", got)
	}
	e := stat(t, b, "/f")
	z.SetFaults(once(wire.APIGenQuery, 5, func() *zone.Fault {
		rods.put(b.full("/f"), "theirs again")
		return nil
	}))
	_, err = b.Put(t.Context(), "/f", text("ours"), upon(e))
	wantKind(t, err, remote.Conflict, "the overwrite")
	if got := contentOf(t, b, "/f"); got != "theirs again" {
		t.Errorf("it holds %q", got)
	}
}

// TestLostAnswers loses the answer of each call that changes something: Retry finds out
// that it has happened, and does nothing twice.
func TestLostAnswers(t *testing.T) {
	z := startZone(t, zone.Options{})
	for what, opts := range map[string]Options{"near": options(z, z.Addr()), "far": farAway(t, z)} {
		inner := dial(t, opts)
		b := remote.Retry(inner, remote.RetryOptions{Wait: time.Millisecond})
		ctx := t.Context()
		lose := func(api int) {
			z.SetFaults(once(api, 1, func() *zone.Fault { return &zone.Fault{LoseReply: true} }))
		}
		apis := []int{wire.APIDataObjOpen, wire.APIDataObjWrite, wire.APIDataObjClose, wire.APIDataObjPut}
		for i, api := range apis {
			path := "/new" + string(rune('0'+i))
			lose(api)
			if e, err := b.Put(ctx, path, text("content"), fresh); err != nil || e.Size != 7 || contentOf(t, b, path) != "content" {
				t.Errorf("%s: a new file without the answer to %s: %+v, %v", what, wire.APIName(api), e, err)
			}
		}
		e := stat(t, b, "/new0")
		lose(wire.APIDataObjPut)
		if _, err := b.Put(ctx, "/new0", text("second"), upon(e)); err != nil || contentOf(t, b, "/new0") != "second" {
			t.Errorf("%s: an overwrite: %v", what, err)
		}
		lose(wire.APICollCreate)
		if _, err := b.Mkdir(ctx, "/dir"); err != nil {
			t.Errorf("%s: mkdir: %v", what, err)
		}
		lose(wire.APIDataObjRename)
		if err := b.Rename(ctx, "/new0", "/new1", remote.RenameOptions{}); err != nil || contentOf(t, b, "/new1") != "second" {
			t.Errorf("%s: rename: %v", what, err)
		}
		lose(wire.APIDataObjUnlink)
		if err := b.Remove(ctx, "/new1", remote.RemoveOptions{Type: remote.File}); err != nil {
			t.Errorf("%s: remove: %v", what, err)
		}
		lose(wire.APIRmColl)
		if err := b.Remove(ctx, "/dir", remote.RemoveOptions{Type: remote.Dir}); err != nil {
			t.Errorf("%s: remove of a directory: %v", what, err)
		}
		linker, _ := remote.As[remote.Symlinker](b)
		lose(wire.APIDataObjPut)
		if l, err := linker.Symlink(ctx, "/link", "target"); err != nil || l.Target != "target" {
			t.Errorf("%s: symlink: %+v, %v", what, l, err)
		}
		z.SetFaults(nil)
		for path := range names(t, b, "/") {
			if err := inner.Remove(ctx, path, remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Error(err)
			}
		}
	}
}
