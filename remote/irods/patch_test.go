package irods

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// patchOf is a patch that makes base what it returns: new bytes in ranges, and the size.
func patchOf(base []byte, size int, seed byte, ranges ...remote.ByteRange) (p remote.Patch, after []byte) {
	after = make([]byte, size)
	copy(after, base)
	bytesOf := content(size, seed)
	for _, r := range ranges {
		copy(after[r.Offset:r.Offset+r.Length], bytesOf[r.Offset:])
	}
	// What lies between the ranges must not be asked for.
	given := bytes.Repeat([]byte{0xdb}, size)
	for _, r := range ranges {
		copy(given[r.Offset:r.Offset+r.Length], bytesOf[r.Offset:])
	}
	return remote.Patch{Size: int64(size), Ranges: ranges, Bytes: bytes.NewReader(given)}, after
}

func span(off, length int) remote.ByteRange {
	return remote.ByteRange{Offset: int64(off), Length: int64(length)}
}

// TestPatch patches objects with and without a checksum, in all shapes.
func TestPatch(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	const p = testPiece
	when := time.Unix(1_500_000_000, 0)
	for i, c := range []struct {
		base, size int
		ranges     []remote.ByteRange
	}{
		{100, 100, []remote.ByteRange{span(0, 1)}},
		{100, 100, []remote.ByteRange{span(99, 1)}},
		{100, 100, []remote.ByteRange{span(10, 5), span(30, 50)}},
		{100, 100, nil},
		{100, 150, nil},
		{100, 150, []remote.ByteRange{span(149, 1)}},
		{100, 150, []remote.ByteRange{span(90, 20)}},
		{100, 50, nil},
		{100, 50, []remote.ByteRange{span(0, 50)}},
		{100, 50, []remote.ByteRange{span(20, 5)}},
		{100, 0, nil},
		{0, 100, []remote.ByteRange{span(50, 10)}},
		{10*p + 5, 10*p + 5, []remote.ByteRange{span(3, p), span(4*p, 4*p+7)}},
		{10*p + 5, 14*p + 9, []remote.ByteRange{span(p-1, 2), span(9*p, 2*p), span(13*p, p+9)}},
		{10*p + 5, 6 * p, []remote.ByteRange{span(0, 5*p+1)}},
	} {
		for _, bare := range []bool{false, true} {
			path := fmt.Sprintf("/f%d-%v", i, bare)
			base := content(c.base, 9)
			var e remote.Entry
			if bare {
				e = putBare(t, other, path, base)
			} else {
				e = mustPut(t, other, path, base, fresh)
			}
			useLanes(b, 3)
			patch, after := patchOf(base, c.size, byte(i), c.ranges...)
			opts := upon(e)
			opts.Attrs.MTime = &when
			got, err := b.Patch(t.Context(), path, patch, opts)
			if err != nil {
				t.Errorf("case %d, bare %v: %v", i, bare, err)
				continue
			}
			now := wantObject(t, other, path, after)
			if got.Version != now.Version || got.ID != e.ID || !got.MTime.Equal(when) || got.Size != int64(c.size) {
				t.Errorf("case %d, bare %v: patched %+v, is %+v", i, bare, got, now)
			}
			if hasSum := now.Checksum.Hex != ""; hasSum == bare && c.size > 0 {
				t.Errorf("case %d: a checksum: %v, bare before: %v", i, hasSum, bare)
			}
		}
	}
}

// TestPatchConditions wants a patch of another version, of nothing and of what is no patch
// to be refused, with everything as it was.
func TestPatchConditions(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	data := content(2*testPiece, 1)
	old := mustPut(t, b, "/f", content(2*testPiece, 5), fresh)
	e := mustPut(t, b, "/f", data, remote.PutOptions{})
	leaveTorn(t, z, mustPutPath(t, b, "/torn"), "half", wire.OpenWriteOnly)
	fine, _ := patchOf(data, len(data), 2, span(0, 100))
	for i, c := range []struct {
		path string
		p    remote.Patch
		opts remote.PutOptions
		want remote.Kind
	}{
		{"/f", fine, upon(old), remote.Conflict},
		{"/none", fine, upon(old), remote.Conflict},
		{"/torn", fine, upon(stat(t, b, "/torn")), remote.Conflict},
		{"/f", fine, remote.PutOptions{}, remote.Invalid},
		{"/f", remote.Patch{Size: 10, Ranges: []remote.ByteRange{span(5, 6)}}, upon(e), remote.Invalid},
		{"/f", remote.Patch{Size: 10, Ranges: []remote.ByteRange{span(5, 1), span(6, 1)}}, upon(e), remote.Invalid},
		{"/f", remote.Patch{Size: -1}, upon(e), remote.Invalid},
		{"/", fine, upon(e), remote.IsDir},
	} {
		for _, redo := range []bool{false, true} {
			c.opts.Redo = redo
			_, err := b.Patch(t.Context(), c.path, c.p, c.opts)
			wantKind(t, err, c.want, "case %d", i)
			if unsure(err) {
				t.Errorf("case %d: unsure: %v", i, err)
			}
		}
	}
	if now := wantObject(t, b, "/f", data); now.Version != e.Version {
		t.Errorf("was %+v, is %+v", e, now)
	}
	// Somebody else comes between the look and the lock.
	theirs := content(777, 7)
	z.SetFaults(once(wire.APIDataObjOpen, 1, func() *zone.Fault {
		z.SetFaults(nil)
		mustPut(t, other, "/f", theirs, remote.PutOptions{})
		return nil
	}))
	_, err := b.Patch(t.Context(), "/f", fine, upon(e))
	wantKind(t, err, remote.Conflict, "a patch of what somebody has just written")
	wantObject(t, b, "/f", theirs)
}

// mustPutPath makes an object and returns its path in the zone.
func mustPutPath(t testing.TB, b *Backend, path string) string {
	t.Helper()
	mustPut(t, b, path, content(100, 1), fresh)
	return b.full(path)
}

// TestPatchReplicas patches an object with a good and a stale replica: the good one, whose
// bytes are known, also if it is to be cut.
func TestPatchReplicas(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dialSmall(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	for i, size := range []int{200, 250, 150} {
		name := fmt.Sprintf("f%d", i)
		mustPut(t, b, "/"+name, content(100, 1), fresh)
		alice.replicate(b.full("/"+name), "resc2")
		base := content(200, 2)
		desc := alice.open(b.full("/"+name), wire.OpenWriteOnly, wire.Pair{Key: wire.KwRescName, Value: "resc2"})
		alice.write(desc, string(base))
		alice.close(desc)
		patch, after := patchOf(base, size, 3, span(20, 30))
		if _, err := b.Patch(t.Context(), "/"+name, patch, upon(stat(t, b, "/"+name))); err != nil {
			t.Fatal(err)
		}
		wantObject(t, b, "/"+name, after)
		if got, want := alice.replicas(name), fmt.Sprintf("0 0 100, 1 1 %d", size); got != want {
			t.Errorf("the replicas are %s, want %s", got, want)
		}
	}
}

// TestPatchOlderServer has a server that cannot cut one replica.
func TestPatchOlderServer(t *testing.T) {
	z := startZone(t, zone.Options{Release: "rods4.3.1"})
	b := dialSmall(t, options(z, z.Addr()))
	data := content(200, 1)
	e := mustPut(t, b, "/f", data, fresh)
	shorter, _ := patchOf(data, 100, 2, span(0, 10))
	_, err := b.Patch(t.Context(), "/f", shorter, upon(e))
	wantKind(t, err, remote.Unsupported, "a shorter object")
	longer, after := patchOf(data, 300, 2, span(0, 10))
	if _, err := b.Patch(t.Context(), "/f", longer, upon(e)); err != nil {
		t.Error(err)
	}
	wantObject(t, b, "/f", after)
}

// patchCalls are those that a patch is made of.
var patchCalls = []int{wire.APIGenQuery, wire.APIDataObjOpen, wire.APIGetFileDescInfo, wire.APIDataObjLseek, wire.APIDataObjWrite,
	wire.APIReplicaClose, wire.APIDataObjClose, wire.APIReplicaTruncate, wire.APIDataObjChksum, wire.APITouch}

// TestPatchCuts ends patches in each way at each of their calls, as if this process died.
// Nobody gets a mixture, and another process makes the object whole.
func TestPatchCuts(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	other := dialSmall(t, options(z, z.Addr()))
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 7))
	t.Logf("seed %d", seed)
	faults := map[string]zone.Fault{"killed": {Kill: true}, "unanswered": {LoseReply: true}, "refused": {Code: wire.CodeUnixWrite - 28}}
	base := content(5*testPiece, 1)
	outcomes := map[string]int{}
	n := 0
	for _, size := range []int{len(base), len(base) + 2*testPiece, len(base) - testPiece} {
		first, _ := patchOf(base, size, 2, span(0, 10), span(testPiece, 3*testPiece))
		if size > len(base) {
			first, _ = patchOf(base, size, 2, span(0, 10), span(testPiece, 3*testPiece), span(len(base)+100, testPiece))
		}
		for name, fault := range faults {
			for _, api := range patchCalls {
				for nth, hit := 1, true; hit && nth <= 4; nth++ {
					n++
					hit = false
					w := &cutPatch{T: t, z: z, other: other, path: fmt.Sprintf("/f%d", n), base: base, outcomes: outcomes}
					w.what = fmt.Sprintf("%d bytes, %s %d %s", size, wire.APIName(api), nth, name)
					w.cut(first, once(api, nth, func() *zone.Fault { hit = true; return &fault }))
					// The next attempt may be another one: longer, shorter, or with more ranges.
					w.mend([]int{size, len(base), len(base) + testPiece, len(base) - 5}[rnd.IntN(4)])
				}
			}
		}
	}
	t.Logf("%d patches: %v", n, outcomes)
	if outcomes["torn"] < 20 {
		t.Error("hardly anything was torn")
	}
	if err := remove(t.Context(), other); err != nil {
		t.Errorf("something is still locked: %v", err)
	}
}

// cutPatch is a patch that is cut off and done again.
type cutPatch struct {
	*testing.T
	z        *zone.Zone
	other    *Backend
	path     string
	base     []byte
	version  string // of base
	whole    bool   // the first patch has been made
	what     string
	outcomes map[string]int
}

// cut makes the object and the first attempt, by a client that lives no longer.
func (w *cutPatch) cut(p remote.Patch, fault func(zone.Call) *zone.Fault) {
	w.Helper()
	w.version = mustPut(w, w.other, w.path, w.base, fresh).Version
	b := dialSmall(w, options(w.z, w.z.Addr()))
	useLanes(b, 2)
	when := time.Unix(1e9, 0)
	w.z.SetFaults(fault)
	_, err := b.Patch(w.Context(), w.path, p, remote.PutOptions{Cond: remote.Cond{Version: w.version}, Attrs: remote.Attrs{MTime: &when}})
	w.z.SetFaults(nil)
	if err := b.Close(); err != nil {
		w.Error(err)
	}
	got := w.look()
	after := w.patched(p)
	w.outcomes[map[string]string{"torn": "torn", string(w.base): "old", string(after): "new"}[got]]++
	switch {
	case got == "torn" && (err == nil || !unsure(err)):
		w.Errorf("%s: it is torn after %v", w.what, err)
	case got == "torn":
	case got == string(w.base) && err == nil, got != string(w.base) && got != string(after):
		w.Errorf("%s: after %v there are %d bytes that are neither old nor new", w.what, err, len(got))
	case got == string(after) && err != nil && !unsure(err):
		w.Errorf("%s: it has happened, but %v is sure", w.what, err)
	}
	w.whole = got == string(after)
}

// patched is what a patch makes of the base.
func (w *cutPatch) patched(p remote.Patch) []byte {
	after := make([]byte, p.Size)
	copy(after, w.base)
	for _, r := range p.Ranges {
		_, _ = p.Bytes.ReadAt(after[r.Offset:r.Offset+r.Length], r.Offset)
	}
	return after
}

// look is what others see: the content, or "torn".
func (w *cutPatch) look() string {
	w.Helper()
	var got []byte
	err := insist(func() error {
		e, err := w.other.Stat(w.Context(), w.path)
		if err == nil {
			got, err = streamAll(w.Context(), w.other, e)
		}
		return err
	})
	if remote.KindOf(err) == remote.Corrupt {
		return "torn"
	}
	if err != nil {
		w.Fatalf("%s: %v", w.what, err)
	}
	return string(got)
}

// mend makes a second attempt of another size, in another process.
func (w *cutPatch) mend(size int) {
	w.Helper()
	ranges := []remote.ByteRange{span(0, 20), span(testPiece-1, min(3*testPiece+7, size-testPiece+1))}
	p, after := patchOf(w.base, size, 3, ranges...)
	opts := remote.PutOptions{Cond: remote.Cond{Version: w.version}, Redo: true}
	err := insist(func() error {
		_, err := w.other.Patch(w.Context(), w.path, p, opts)
		return err
	})
	switch {
	case w.whole:
		wantKind(w, err, remote.Conflict, "%s: a repeat of what has happened", w.what)
	case err != nil:
		w.Errorf("%s: a repeat with %d bytes: %v", w.what, size, err)
	default:
		wantObject(w, w.other, w.path, after)
	}
}

// TestRedo has objects torn by earlier processes written again.
func TestRedo(t *testing.T) {
	z := startZone(t, zone.Options{})
	b, other := dialSmall(t, options(z, z.Addr())), dialSmall(t, options(z, z.Addr()))
	for i, c := range []struct {
		before, tear string
		flags        int
		theirs       string // written whole after the tear
		fresh        bool
		want         remote.Kind
	}{
		{"", "half", newFile, "", true, 0},
		{"", "", newFile, "", true, 0},
		{"old content", "half", wire.OpenWriteOnly, "", false, 0},
		{"old content", "half", wire.OpenWriteOnly | wire.OpenTruncate, "", false, 0},
		{"old content", "", wire.OpenWriteOnly, "", false, 0},
		{"old content", "half", wire.OpenWriteOnly, "theirs", false, remote.Conflict},
		{"", "half", newFile, "theirs", true, remote.Exist},
	} {
		for _, size := range []int{0, 100, 3 * testPiece} {
			path := fmt.Sprintf("/f%d-%d", i, size)
			opts := fresh
			if c.before != "" {
				opts = upon(put(t, other, path, c.before, fresh))
			}
			leaveTorn(t, z, b.full(path), c.tear, c.flags)
			if c.theirs != "" {
				put(t, other, path, c.theirs, remote.PutOptions{})
			}
			data := content(size, byte(i))
			_, err := b.Put(t.Context(), path, remotetest.Bytes(data), opts)
			if err == nil || !errorsKind(err, remote.Conflict, remote.Exist) {
				t.Errorf("case %d: without Redo: %v", i, err)
			}
			opts.Redo = true
			_, err = b.Put(t.Context(), path, remotetest.Bytes(data), opts)
			switch {
			case c.want != 0:
				wantKind(t, err, c.want, "case %d", i)
				if contentOf(t, b, path) != c.theirs {
					t.Errorf("case %d: it is not theirs any more", i)
				}
			case err != nil:
				t.Errorf("case %d: %v", i, err)
			default:
				wantObject(t, other, path, data)
			}
		}
	}
	// Another object in the place of ours, torn as well.
	e := put(t, other, "/g", "old content", fresh)
	if err := other.Remove(t.Context(), "/g", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	put(t, other, "/g", "another", fresh)
	leaveTorn(t, z, b.full("/g"), "x", wire.OpenWriteOnly)
	opts := upon(e)
	opts.Redo = true
	_, err := b.Put(t.Context(), "/g", text("ours"), opts)
	wantKind(t, err, remote.Conflict, "another torn object")
	// A torn object of which the base is gone cannot be patched.
	e = put(t, other, "/h", "old content", fresh)
	leaveTorn(t, z, b.full("/h"), "x", wire.OpenWriteOnly|wire.OpenTruncate)
	opts = upon(e)
	opts.Redo = true
	p, _ := patchOf([]byte("old content"), 11, 3, span(0, 3))
	_, err = b.Patch(t.Context(), "/h", p, opts)
	wantKind(t, err, remote.Conflict, "a patch of what is gone")
}

func errorsKind(err error, kinds ...remote.Kind) bool {
	for _, k := range kinds {
		if remote.KindOf(err) == k {
			return true
		}
	}
	return false
}
