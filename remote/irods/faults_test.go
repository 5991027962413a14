package irods

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// uploading is a way to change an object.
type uploading struct {
	name string
	base []byte // nil: a new object
	want []byte
	run  func(ctx context.Context, b remote.Backend, path string, want []byte, opts remote.PutOptions) error
	far  bool
}

func putWhole(ctx context.Context, b remote.Backend, path string, want []byte, opts remote.PutOptions) error {
	_, err := b.Put(ctx, path, remotetest.Bytes(want), opts)
	return err
}

func putGrown(ctx context.Context, b remote.Backend, path string, want []byte, opts remote.PutOptions) error {
	putter, _ := remote.As[remote.GrowingPutter](b)
	src := &remotetest.Growth{}
	src.Grow(want[:2*testPiece])
	done := make(chan error, 1)
	go func() {
		_, err := putter.PutGrowing(ctx, path, src, opts)
		done <- err
	}()
	src.Grow(want[2*testPiece:])
	src.End(opts.Attrs)
	return <-done
}

// patchEnds changes all but the middle of the base.
func patchEnds(ctx context.Context, b remote.Backend, path string, want []byte, opts remote.PutOptions) error {
	patcher, _ := remote.As[remote.Patcher](b)
	_, err := patcher.Patch(ctx, path, remote.Patch{Size: int64(len(want)), Bytes: bytesAt(want), Ranges: []remote.ByteRange{
		span(0, testPiece+5), span(2*testPiece, len(want)-2*testPiece)}}, opts)
	return err
}

// bytesAt is an io.ReaderAt.
func bytesAt(p []byte) *remotetest.Growth { return remotetest.Grown(p, remote.Attrs{}) }

// patched is the middle of a base between other bytes.
func patched(base []byte, size int) []byte {
	want := content(size, 8)
	copy(want[testPiece+5:2*testPiece], base[testPiece+5:])
	return want
}

func uploadings() []uploading {
	small, large := content(100, 1), content(4*testPiece, 2)
	return []uploading{
		{name: "a small new one", want: small, run: putWhole},
		{name: "a small new one far away", want: small, run: putWhole, far: true},
		{name: "a small one over another", base: content(200, 3), want: small, run: putWhole},
		{name: "a large new one", want: large, run: putWhole},
		{name: "a large one over a shorter one", base: content(testPiece, 3), want: large, run: putWhole},
		{name: "a large one over a longer one", base: content(5*testPiece, 3), want: large, run: putWhole},
		{name: "a growing one", want: large, run: putGrown},
		{name: "a patch", base: large, want: patched(large, 5*testPiece), run: patchEnds},
		{name: "a patch that cuts", base: large, want: patched(large, 3*testPiece), run: patchEnds},
	}
}

// uploadFaults are what may go wrong with a call, and the Kinds that it may become.
var uploadFaults = map[string]struct {
	fault zone.Fault
	late  int // 1: only in the last one of several calls
	kinds []remote.Kind
}{
	"killed":        {zone.Fault{Kill: true}, 0, []remote.Kind{remote.Unavailable}},
	"unanswered":    {zone.Fault{LoseReply: true}, 0, []remote.Kind{remote.Unavailable}},
	"quota":         {zone.Fault{Code: wire.CodeQuota}, 1, []remote.Kind{remote.NoSpace}},
	"full disk":     {zone.Fault{Code: wire.CodeUnixWrite - 28}, 0, []remote.Kind{remote.NoSpace}},
	"catalog":       {zone.Fault{Code: wire.CodeCatalogSQL}, 0, []remote.Kind{remote.Unavailable}},
	"hierarchy":     {zone.Fault{Code: wire.CodeHierarchy}, 1, []remote.Kind{remote.Unavailable, remote.Locked}},
	"resource down": {zone.Fault{Code: wire.CodeResourceDown}, 1, []remote.Kind{remote.Unavailable}},
	"junk":          {zone.Fault{Raw: []byte("\x00\x00\x00\x04junk")}, 1, []remote.Kind{remote.Corrupt, remote.Unavailable}},
}

// TestUploadFaults has each call of each way to change an object fail in each way. What
// is left is the old, the new or torn, and doubted exactly if it may not be the old; and
// the next process makes it whole.
func TestUploadFaults(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	far := farAway(t, z)
	x := &uploadFault{T: t, z: z, other: dialSmall(t, options(z, z.Addr())), left: map[string]int{},
		wrap: func(b remote.Backend) remote.Backend { return b }}
	for _, up := range uploadings() {
		x.uploading, x.opts = up, options(z, z.Addr())
		if up.far {
			x.opts = far
		}
		calls := x.calls()
		for _, name := range slices.Sorted(maps.Keys(uploadFaults)) {
			for api, n := range calls {
				for _, nth := range slices.Compact([]int{1 + uploadFaults[name].late*(n-1), n}) {
					fault := uploadFaults[name].fault
					x.what = fmt.Sprintf("%s: %s %d of %d: %s", up.name, wire.APIName(api), nth, n, name)
					x.fail(once(api, nth, func() *zone.Fault { return &fault }), uploadFaults[name].kinds)
				}
			}
		}
	}
	t.Logf("%d uploads: %v", x.n, x.left)
	if err := remove(t.Context(), x.other); err != nil {
		t.Errorf("something is still locked: %v", err)
	}
}

// uploadFault is an upload that fails.
type uploadFault struct {
	*testing.T
	uploading
	z     *zone.Zone
	other *Backend // of the next process
	opts  Options
	wrap  func(remote.Backend) remote.Backend
	n     int
	what  string
	left  map[string]int
}

// begin makes the base at a new path, and returns the conditions of the upload.
func (x *uploadFault) begin() (path string, opts remote.PutOptions) {
	x.Helper()
	x.n++
	path, opts = fmt.Sprintf("/f%d", x.n), fresh
	if x.base != nil {
		opts = upon(mustPut(x, x.other, path, x.base, fresh))
	}
	when := time.Unix(1e9, 0)
	opts.Attrs.MTime = &when
	return path, opts
}

// client is a new process.
func (x *uploadFault) client() *Backend {
	b := dialSmall(x, x.opts)
	useLanes(b, 2)
	if _, err := b.Stat(x.Context(), "/"); err != nil { // so that the distance is known
		x.Fatal(err)
	}
	return b
}

// calls returns which calls the upload makes if nothing goes wrong.
func (x *uploadFault) calls() map[int]int {
	x.Helper()
	path, opts := x.begin()
	b := x.client()
	x.z.ResetCalls()
	if err := x.run(x.Context(), b, path, x.want, opts); err != nil {
		x.Fatalf("%s: %v", x.name, err)
	}
	calls := x.z.Calls()
	wantObject(x, x.other, path, x.want)
	if err := b.Close(); err != nil {
		x.Error(err)
	}
	return calls
}

// fail makes an upload that fails, and then the same by another process.
func (x *uploadFault) fail(fault func(zone.Call) *zone.Fault, kinds []remote.Kind) {
	x.Helper()
	path, opts := x.begin()
	b := x.client()
	x.z.SetFaults(fault)
	err := x.run(x.Context(), x.wrap(b), path, x.want, opts)
	x.z.SetFaults(nil)
	if err := b.Close(); err != nil {
		x.Error(err)
	}
	w := &brokenWrite{T: x.T, other: x.other, path: path, old: x.base, data: x.want, what: x.what}
	left := w.look()
	x.left[left]++
	before := map[bool]string{true: "nothing", false: "old"}[x.base == nil]
	switch {
	case left == "mixture":
		x.Errorf("%s (%v): a mixture is shown as content", x.what, err)
	case err == nil && left != "new":
		x.Errorf("%s: success has left the %s", x.what, left)
	case err == nil:
		return
	case !slices.Contains(kinds, remote.KindOf(err)):
		x.Errorf("%s: %v", x.what, err)
	case left != before && !unsure(err):
		x.Errorf("%s: it is %s, without a doubt in %v", x.what, left, err)
	}
	if left == before && unsure(err) && code(err) != 0 {
		x.Errorf("%s: nothing was altered, but %v is in doubt", x.what, err)
	}
	x.redo(path, opts, left == "new")
}

// redo makes the upload again.
func (x *uploadFault) redo(path string, opts remote.PutOptions, happened bool) {
	x.Helper()
	opts.Redo = true
	run := x.run
	if x.base == nil {
		run = putWhole
	}
	err := insist(func() error { return run(x.Context(), x.other, path, x.want, opts) })
	switch kind := remote.KindOf(err); {
	case happened && err != nil && (kind == remote.Exist || kind == remote.Conflict):
	case err != nil || happened:
		x.Errorf("%s: the repeat: %v", x.what, err)
	}
	wantObject(x, x.other, path, x.want)
}

// TestUploadStalls has the network stand still, and be reset, in each call of each way to
// change an object. The watchdog ends the first one.
func TestUploadStalls(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	x := &uploadFault{T: t, z: z, other: dialSmall(t, options(z, z.Addr())), opts: options(z, proxy.Addr()), left: map[string]int{},
		wrap: func(b remote.Backend) remote.Backend { return remote.Watchdog(b, 150*time.Millisecond) }}
	for _, up := range uploadings() {
		if up.far {
			continue
		}
		x.uploading = up
		calls := x.calls()
		for _, api := range []int{wire.APIDataObjOpen, wire.APIDataObjWrite, wire.APIDataObjClose, wire.APIDataObjPut, wire.APIReplicaTruncate} {
			n := calls[api]
			if n == 0 {
				continue
			}
			x.what = fmt.Sprintf("%s: a reset at %s %d", up.name, wire.APIName(api), n)
			x.fail(once(api, n, func() *zone.Fault { proxy.Reset(); return nil }), []remote.Kind{remote.Unavailable})
			x.what = fmt.Sprintf("%s: a stall at %s %d", up.name, wire.APIName(api), n)
			var stalled sync.WaitGroup
			x.fail(once(api, n, func() *zone.Fault {
				proxy.Stall()
				stalled.Add(1)
				time.AfterFunc(400*time.Millisecond, func() { proxy.Resume(); stalled.Done() })
				return nil
			}), []remote.Kind{remote.Unavailable})
			stalled.Wait()
		}
	}
	t.Logf("%d uploads: %v", x.n, x.left)
}

// TestUploadOverOrphan meets objects that somebody has left while he wrote them, and whose
// end the server does not notice: they are locked, and nothing is altered.
func TestUploadOverOrphan(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	orphan := func(path string, flags int) {
		alice.do(leaveCall(alice.open(b.full(path), flags)))
	}
	e := mustPut(t, b, "/old", content(3*testPiece, 1), fresh)
	orphan("/old", wire.OpenWriteOnly)
	orphan("/new", newFile)
	shown := names(t, b, "/")
	for _, redo := range []bool{false, true} {
		for _, size := range []int{100, 3 * testPiece, 4 * testPiece} {
			opts := remote.PutOptions{Redo: redo}
			_, err := b.Put(t.Context(), "/old", remotetest.Bytes(content(size, 2)), opts)
			wantKind(t, err, remote.Locked, "%d bytes", size)
			opts.Cond.Version = e.Version
			_, err = b.Put(t.Context(), "/old", remotetest.Bytes(content(size, 2)), opts)
			wantKind(t, err, remote.Locked, "%d bytes over the version before", size)
			if unsure(err) {
				t.Errorf("in doubt: %v", err)
			}
			opts.Cond = remote.Cond{NotExist: true}
			want := map[bool]remote.Kind{false: remote.Exist, true: remote.Locked}[redo]
			_, err = b.Put(t.Context(), "/new", remotetest.Bytes(content(size, 2)), opts)
			wantKind(t, err, want, "a new one of %d bytes", size)
		}
		p, _ := patchOf(content(3*testPiece, 1), 2*testPiece, 2, span(0, 10))
		_, err := b.Patch(t.Context(), "/old", p, remote.PutOptions{Cond: remote.Cond{Version: e.Version}, Redo: redo})
		wantKind(t, err, remote.Locked, "a patch")
	}
	if now := names(t, b, "/"); !maps.Equal(now, shown) {
		t.Errorf("there was %v, there is %v", shown, now)
	}
}
