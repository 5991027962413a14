package irods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// batchFaults are what may go wrong with a call of a batch.
var batchFaults = map[string]zone.Fault{
	"killed":     {Kill: true},
	"unanswered": {LoseReply: true},
	"quota":      {Code: wire.CodeQuota},
	"forbidden":  {Code: wire.CodeNotAllowed},
	"catalog":    {Code: wire.CodeCatalogSQL},
	"unknown":    {Code: wire.CodeUnknownAPI},
	"junk":       {Raw: []byte("\x00\x00\x00\x04junk")},
	"no room":    {Extraction: zone.Extraction{Room: 2000}},
	"half":       {Extraction: zone.Extraction{Members: 3}},
}

// TestBatchFaults has each call of a batch fail in each way. What counts as stored is
// stored, what is certainly not is not, and nothing is left.
func TestBatchFaults(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	x := &batchFault{T: t, z: z, other: dial(t, options(z, z.Addr())), alice: connect(t, z, "alice"), left: map[string]int{}}
	for _, large := range []bool{false, true} {
		x.large = large
		calls := x.calls()
		for _, name := range slices.Sorted(maps.Keys(batchFaults)) {
			fault := batchFaults[name]
			for _, api := range slices.Sorted(maps.Keys(calls)) {
				if fault.Extraction != (zone.Extraction{}) && api != wire.APIStructFileExtAndReg {
					continue
				}
				for _, nth := range slices.Compact([]int{1, calls[api]/2 + 1, calls[api]}) {
					what := fmt.Sprintf("large %v: %s %d of %d: %s", large, wire.APIName(api), nth, calls[api], name)
					x.fail(what, once(api, nth, func() *zone.Fault { return &fault }))
				}
			}
		}
	}
	t.Logf("%d batches: %v", x.n, x.left)
	wantNoLeftovers(t, x.alice, "after all")
}

// batchFault is batches that fail.
type batchFault struct {
	*testing.T
	z     *zone.Zone
	other *Backend
	alice *raw
	large bool // the archive is more than a piece
	n     int
	left  map[string]int
}

// batch makes items in a new directory and a new client.
func (x *batchFault) batch() (*Backend, []remote.BatchItem) {
	x.Helper()
	x.n++
	dir := fmt.Sprintf("/d%d", x.n)
	mkdir(x, x.other, dir)
	b := dial(x, options(x.z, x.z.Addr()))
	if x.large {
		b.piece = testPiece
	}
	return b, smalls(dir, 6)
}

func (x *batchFault) calls() map[int]int {
	x.Helper()
	b, items := x.batch()
	x.z.ResetCalls()
	mustBatch(x, b, items)
	return x.z.Calls()
}

func (x *batchFault) fail(what string, fault func(zone.Call) *zone.Fault) {
	x.Helper()
	b, items := x.batch()
	x.z.SetFaults(fault)
	results, err := b.PutBatch(x.Context(), items)
	x.z.SetFaults(nil)
	x.judge(what, items, results, err)
	for _, item := range items { // alone, it can be stored or is there
		_, err := x.other.Put(x.Context(), item.Path, item.Source, fresh)
		if err != nil && remote.KindOf(err) != remote.Exist {
			x.Errorf("%s: %s alone: %v", what, item.Path, err)
		}
		if got := contentOf(x, x.other, item.Path); got != smallText(item.Path) {
			x.Errorf("%s: %s holds %d other bytes in the end", what, item.Path, len(got))
		}
	}
	wantGone(x, x.alice, b.full(items[0].Path), what)
	if err := b.Close(); err != nil {
		x.Error(err)
	}
}

// wantGone waits until nothing hidden lies beside a path.
func wantGone(t testing.TB, r *raw, path, what string) {
	t.Helper()
	dir, _ := splitFull(path)
	eventually(t, what+": the removal of what is hidden", func() bool {
		return len(r.rows([]int{wire.ColCollName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(dir)})) == 0
	})
}

// judge compares the results with what is there.
func (x *batchFault) judge(what string, items []remote.BatchItem, results []remote.BatchResult, err error) {
	x.Helper()
	if err != nil {
		results = make([]remote.BatchResult, len(items))
		for i := range results {
			results[i].Err = err
		}
		x.left["error"]++
	}
	for i, r := range results {
		content, there := x.look(items[i].Path)
		whole := there && content == smallText(items[i].Path)
		switch {
		case there && !whole:
			x.Errorf("%s: %s holds other bytes (%v)", what, items[i].Path, r.Err)
		case r.Err == nil && !whole:
			x.Errorf("%s: %s counts as stored and is not", what, items[i].Path)
		case r.Err == nil:
			x.left["stored"]++
			x.wantEntry(what, r.Entry)
		case unsure(r.Err):
			x.left["in doubt"]++
		case there:
			x.Errorf("%s: %s is there, without a doubt in %v", what, items[i].Path, r.Err)
		default:
			x.left["not stored"]++
		}
	}
}

func (x *batchFault) wantEntry(what string, e remote.Entry) {
	x.Helper()
	now := stat(x, x.other, e.Path)
	now.Provisional = e.Provisional // our clocks differ
	if now != e {
		x.Errorf("%s: stored as %+v, a look shows %+v", what, e, now)
	}
}

func (x *batchFault) look(path string) (content string, there bool) {
	x.Helper()
	if _, err := x.other.Stat(x.Context(), path); remote.KindOf(err) == remote.NotExist {
		return "", false
	}
	return contentOf(x, x.other, path), true
}

// TestBatchMeets has somebody else take a name between the look and the extraction: on the
// same storage, on another one, as a collection, with the same bytes.
func TestBatchMeets(t *testing.T) {
	z := startZone(t, zone.Options{})
	alice, other := connect(t, z, "alice"), dial(t, options(z, z.Addr()))
	for n, take := range []func(path string){
		func(path string) { alice.put(path, strings.Repeat("x", len(smallText("/d0/f0003")))) },
		func(path string) { alice.put(path, "theirs", on("resc2")) },
		func(path string) { alice.do(&wire.Call{API: wire.APICollCreate, In: &wire.CollInp{Name: path}}) },
		func(path string) { alice.put(path, "theirs") },
		func(path string) { alice.put(path, smallText("/d4/f0003")) },
	} {
		dir := fmt.Sprintf("/d%d", n)
		mkdir(t, other, dir)
		items := smalls(dir, 60)
		b := dial(t, options(z, z.Addr()))
		z.SetFaults(onceAny(wire.APIStructFileExtAndReg, func() { take(b.full(items[3].Path)) }))
		results, err := b.PutBatch(t.Context(), items)
		z.SetFaults(nil)
		if err != nil {
			t.Fatal(err)
		}
		stored := 0
		for i, r := range results {
			k := remote.KindOf(r.Err)
			switch {
			case r.Err == nil:
				stored++
				if got := contentOf(t, other, items[i].Path); got != smallText(items[i].Path) {
					t.Errorf("%d: %s counts as stored and is not", n, items[i].Path)
				}
			case i != 3 && k != remote.Unsupported, i == 3 && k != remote.Exist && k != remote.Unsupported:
				t.Errorf("%d: %s: %v", n, items[i].Path, r.Err)
			}
		}
		if stored == 0 || n != 4 && results[3].Err == nil {
			t.Errorf("%d: %d stored, the one that is taken: %v", n, stored, results[3].Err)
		}
		wantNoLeftovers(t, alice, dir)
	}
}

// TestBatchOverwritten has somebody else write a file before it is looked at: it is not
// stored as ours, and not removed.
func TestBatchOverwritten(t *testing.T) {
	z := startZone(t, zone.Options{})
	alice, other := connect(t, z, "alice"), dial(t, options(z, z.Addr()))
	for n, theirs := range []string{"theirs", strings.Repeat("x", len(smallText("/d0/f0001")))} {
		dir := fmt.Sprintf("/d%d", n)
		mkdir(t, other, dir)
		items := smalls(dir, 4)
		b := dial(t, options(z, z.Addr()))
		z.SetFaults(onceAny(wire.APIDataObjChksum, func() { put(t, other, items[1].Path, theirs, remote.PutOptions{}) }))
		results, err := b.PutBatch(t.Context(), items)
		z.SetFaults(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if (r.Err == nil) != (i != 1) {
				t.Errorf("%d: %v", i, r.Err)
			}
		}
		if got := contentOf(t, other, items[1].Path); got != theirs {
			t.Errorf("what somebody else has written has become %q", got)
		}
	}
	wantNoLeftovers(t, alice, "overwritten")
}

// onceAny calls f before the first call of an API.
func onceAny(api int, f func()) func(zone.Call) *zone.Fault {
	var first sync.Once
	return func(c zone.Call) *zone.Fault {
		if c.API == api {
			first.Do(f)
		}
		return nil
	}
}

// TestBatchPauses forgoes batches for a while after an extraction that failed, and for good
// if the server has none.
func TestBatchPauses(t *testing.T) {
	z := startZone(t, zone.Options{})
	for fault, never := range map[int]bool{wire.CodeNotAllowed: false, wire.CodeUnknownAPI: true} {
		b := dial(t, options(z, z.Addr()))
		z.SetFaults(once(wire.APIStructFileExtAndReg, 1, func() *zone.Fault { return &zone.Fault{Code: fault} }))
		wantAlone(t, b, smalls("/", 3), "a refusal")
		if most := b.Batches(); most != (remote.Batches{}) {
			t.Errorf("%d: %+v", fault, most)
		}
		if got := counted(z, func() { wantAlone(t, b, smalls("/", 3), "another") }); len(got) > 0 {
			t.Errorf("%d: asked again: %v", fault, got)
		}
		b.batching.mu.Lock()
		b.batching.until = time.Time{}
		b.batching.mu.Unlock()
		if off := b.Batches().Files == 0; off != never {
			t.Errorf("%d: off after the pause: %v", fault, off)
		}
	}
	wantNoLeftovers(t, connect(t, z, "alice"), "refusals")
}

// TestBatchCancelled cancels a batch while the server extracts.
func TestBatchCancelled(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	g := newGate(z, wire.APIStructFileExtAndReg, 0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.PutBatch(ctx, smalls("/", 5))
		done <- err
	}()
	g.await(t, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	g.open(all)
	wantNoLeftovers(t, connect(t, z, "alice"), "a cancelled batch")
}

// TestBatchSources has sources fail: the others are stored.
func TestBatchSources(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	items := smalls("/", 6)
	items[1].Source = failing{size: 10, err: io.ErrClosedPipe}
	items[4].Source = short{}
	results, err := b.PutBatch(t.Context(), items)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if bad := i == 1 || i == 4; (r.Err != nil) != bad || bad && remote.KindOf(r.Err) == remote.Unsupported {
			t.Errorf("%d: %v", i, r.Err)
		}
	}
	if n := len(names(t, b, "/")); n != 4 {
		t.Errorf("%d files", n)
	}
	wantNoLeftovers(t, connect(t, z, "alice"), "sources")
}

// short is a source with less than it says.
type short struct{}

func (short) Size() int64                  { return 100 }
func (short) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("less")), nil }

// TestBatchSweep removes what processes have left that died, and nothing else.
func TestBatchSweep(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	mkdir(t, b, "/d", "/d/sub", "/e")
	temps := []string{"/.meshmount-DEAD.1.tmp", "/d/.meshmount-DEAD.2.tmp", "/d/sub/.meshmount-LIVE.3.tmp", "/e/.meshmount-DEAD.4.tmp", "/d/.meshmount-5.tmp"}
	for _, rel := range temps {
		alice.do(&wire.Call{API: wire.APICollCreate, In: &wire.CollInp{Name: b.full(rel)}})
		alice.put(b.full(rel)+"/batch-0.tar", "half")
	}
	if got := slices.Sorted(maps.Keys(names(t, b, "/"))); !slices.Equal(got, []string{"/d", "/e"}) {
		t.Errorf("hidden names are listed: %v", got)
	}
	_, err := b.Stat(t.Context(), temps[0])
	wantKind(t, err, remote.NotExist, "a hidden name")
	_, err = b.Put(t.Context(), temps[0]+"/f", text("x"), remote.PutOptions{})
	wantKind(t, err, remote.Invalid, "a put into it")
	dead := func(tag string) bool { return tag == "DEAD" }
	for _, want := range []map[string]int{{"query": 1, "remove collection": 2}, {}} {
		wantCalls(t, z, "a sweep", want, func() {
			if err := b.Sweep(t.Context(), "/d/sub/f", 100, dead); err != nil {
				t.Error(err)
			}
		})
	}
	left := leftovers(alice)
	slices.Sort(left)
	if want := []string{b.full(temps[4]), b.full(temps[2]), b.full(temps[3])}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	err = b.Sweep(t.Context(), "/e/f", 100, func(tag string) bool { return strings.HasPrefix(tag, "DEAD") })
	if err != nil || len(leftovers(alice)) != 2 {
		t.Errorf("%v, %v", leftovers(alice), err)
	}
}

// TestBatchStalls has the network be reset at each call of a batch.
func TestBatchStalls(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	x := &batchFault{T: t, z: z, other: dial(t, options(z, z.Addr())), alice: connect(t, z, "alice"), left: map[string]int{}}
	for _, api := range []int{wire.APIGenQuery, wire.APICollCreate, wire.APIDataObjOpen, wire.APIStructFileExtAndReg, wire.APIDataObjChksum, wire.APIRmColl} {
		x.n++
		dir := fmt.Sprintf("/d%d", x.n)
		mkdir(t, x.other, dir)
		b := dial(t, options(z, proxy.Addr()))
		items := smalls(dir, 6)
		z.SetFaults(onceAny(api, proxy.Reset))
		results, err := b.PutBatch(t.Context(), items)
		z.SetFaults(nil)
		if err != nil && unsure(err) { // the server may still be at it
			eventually(t, "the end of the extraction", func() bool { return len(names(t, x.other, dir)) == len(items) })
		}
		x.judge("a reset at "+wire.APIName(api), items, results, err)
		wantGone(t, x.alice, b.full(items[0].Path), wire.APIName(api))
	}
	t.Logf("%v", x.left)
}
