package irods

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// smalls are n new files in a directory, whose contents their names tell.
func smalls(dir string, n int) []remote.BatchItem {
	items := make([]remote.BatchItem, n)
	for i := range items {
		path := remote.Join(dir, fmt.Sprintf("f%04d", i))
		items[i] = remote.BatchItem{Path: path, Source: text(smallText(path)), Tag: "TAG"}
	}
	return items
}

func smallText(path string) string { return strings.Repeat(path+" ", 30) }

// mustBatch stores items and wants all of them stored.
func mustBatch(t testing.TB, b remote.Batcher, items []remote.BatchItem) []remote.BatchResult {
	t.Helper()
	results, err := b.PutBatch(t.Context(), items)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Fatalf("%s: %v", items[i].Path, r.Err)
		}
	}
	return results
}

// wantAlone wants all items to be left to others.
func wantAlone(t testing.TB, b remote.Batcher, items []remote.BatchItem, what string) {
	t.Helper()
	results, err := b.PutBatch(t.Context(), items)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i, r := range results {
		if remote.KindOf(r.Err) != remote.Unsupported || r.Err == nil {
			t.Errorf("%s: %s: %v", what, items[i].Path, r.Err)
		}
	}
}

// leftovers returns the hidden collections of the zone.
func leftovers(r *raw) []string {
	r.t.Helper()
	return r.rows([]int{wire.ColCollName}, wire.Where{Column: wire.ColCollName, Cond: wire.Like("%/" + tempPrefix + "%")})
}

func wantNoLeftovers(t testing.TB, r *raw, what string) {
	t.Helper()
	eventually(t, what+": the removal of what is hidden", func() bool { return len(leftovers(r)) == 0 })
}

// TestBatchRequests counts the calls of batches.
func TestBatchRequests(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, farAway(t, z))
	alice := connect(t, z, "alice")
	mkdir(t, b, "/d", "/d/sub")
	stat(t, b, "/d")
	items := append(smalls("/d", 50), smalls("/d/sub", 50)...)
	want := map[string]int{"create collection": 1, "put": 1, "extract": 1, "checksum": 1, "remove collection": 1}
	got := counted(z, func() { mustBatch(t, b, items) })
	// Names go out in lists of 2,000 bytes; the upload asks four, the end two.
	if n := got["query"]; n < 1+2+4+2 || n > 16 {
		t.Errorf("%d questions for 100 files", n)
	}
	delete(got, "query")
	if !maps.Equal(got, want) {
		t.Errorf("100 files take the calls %v, want %v", got, want)
	}
	near := dial(t, options(z, z.Addr()))
	for _, it := range items {
		if got := contentOf(t, near, it.Path); got != smallText(it.Path) {
			t.Errorf("%s holds %q", it.Path, got)
		}
	}
	if left := leftovers(alice); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	when := time.Unix(1e9, 0)
	mkdir(t, b, "/loose", "/strict")
	timed := func(dir string, loose bool) (items []remote.BatchItem) {
		items = smalls(dir, 10)
		for i := range items {
			items[i].Attrs.MTime, items[i].Loose = &when, loose
		}
		return items
	}
	if got := counted(z, func() { mustBatch(t, b, timed("/loose", true)) }); got["touch"] != 0 {
		t.Errorf("loose times: %v", got)
	}
	if got := counted(z, func() { mustBatch(t, b, timed("/strict", false)) }); got["touch"] != 10 {
		t.Errorf("strict times: %v", got)
	}
	if e := stat(t, b, "/strict/f0003"); !e.MTime.Equal(when) {
		t.Errorf("the time is %v", e.MTime)
	}
}

// TestBatchLater: attributes that may come later cost a batch nothing, and what is told to be
// left is just what the extraction has not kept.
func TestBatchLater(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	when := time.Unix(1e9, 0)
	modes := []uint32{0o644, 0o755, 0o600, 0o400, 0o666}
	items := smalls("/", len(modes))
	for i := range items {
		items[i].Later, items[i].Attrs = true, remote.Attrs{MTime: &when, Mode: &modes[i]}
	}
	items[1].Loose = true
	var results []remote.BatchResult
	got := counted(z, func() { results = mustBatch(t, b, items) })
	if got["touch"]+got["modify metadata"] > 0 || got["extract"] != 1 {
		t.Errorf("%v", got)
	}
	var list []remote.AttrItem
	for i, r := range results {
		kept := modes[i] == 0o644 || modes[i] == 0o755 || modes[i] == 0o600
		if (r.Rest.Mode == nil) != kept || (r.Rest.MTime == nil) != items[i].Loose {
			t.Errorf("%o: %+v is left", modes[i], r.Rest)
		}
		list = append(list, remote.AttrItem{Path: items[i].Path, Attrs: r.Rest})
	}
	if _, err := b.SetAttrBatch(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for i, it := range items {
		e := stat(t, b, it.Path)
		if e.Mode != modes[i] || e.MTime.Equal(when) == it.Loose {
			t.Errorf("%s has become %+v", it.Path, e)
		}
	}
}

// TestBatchGuards has more files than lie between two guards.
func TestBatchGuards(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	items := smalls("/", 2*guardEvery+10)
	got := counted(z, func() { mustBatch(t, b, items) })
	if got["extract"] != 1 || got["checksum"] != 3 {
		t.Errorf("%v", got)
	}
	if n := len(names(t, b, "/")); n != len(items) {
		t.Errorf("%d files of %d", n, len(items))
	}
}

// TestLoosePut stores files alone without a call for a time that need not be kept.
func TestLoosePut(t *testing.T) {
	z := startZone(t, zone.Options{})
	when := time.Unix(1e9, 0)
	for what, opts := range map[string]Options{"near": options(z, z.Addr()), "far": farAway(t, z)} {
		b := dial(t, opts)
		stat(t, b, "/")
		put := func(path string, loose bool) func() {
			return func() {
				opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &when}, Loose: loose}
				put(t, b, path, "content", opts)
			}
		}
		if got := counted(z, put("/loose-"+what, true)); got["touch"] != 0 {
			t.Errorf("%s: %v", what, got)
		}
		if got := counted(z, put("/strict-"+what, false)); got["touch"] != 1 {
			t.Errorf("%s, strict: %v", what, got)
		}
		if e := stat(t, b, "/loose-"+what); e.MTime.Equal(when) {
			t.Errorf("%s: the time is kept", what)
		}
	}
}

// TestBatchModes stores files whose permission bits the vault cannot have.
func TestBatchModes(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	modes := []uint32{0o644, 0o755, 0o444, 0, 0o666, 0o4755}
	items := smalls("/", len(modes))
	for i := range items {
		items[i].Attrs.Mode = &modes[i]
	}
	for i, r := range mustBatch(t, b, items) {
		now := stat(t, b, items[i].Path)
		if r.Entry.Mode != modes[i] || now.Mode != modes[i] || !now.ModeKnown {
			t.Errorf("%o has become %o, a look shows %o", modes[i], r.Entry.Mode, now.Mode)
		}
	}
	alice := connect(t, z, "alice")
	for _, row := range alice.rows([]int{wire.ColDataMode}, wire.Where{Column: wire.ColDataName, Cond: wire.Like("f%")}) {
		var mode uint32
		if _, err := fmt.Sscan(row, &mode); err != nil || mode&0o600 != 0o600 {
			t.Errorf("the server itself may not open a file: %o, %v", mode, err)
		}
	}
}

// TestBatchNames leaves alone what the extraction may not hold.
func TestBatchNames(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d")
	odd := []string{"it's", `back\slash`, "new\nline", "\x01", strings.Repeat("n", 255), `"q"`}
	items := smalls("/d", 3)
	for _, name := range odd {
		items = append(items, remote.BatchItem{Path: "/d/" + name, Source: text("x")})
	}
	good := []string{"a b", "ä日本", "-dash", "100%", "under_score", "#mtree", "070707"}
	for _, name := range good {
		items = append(items, remote.BatchItem{Path: "/d/" + name, Source: text("x")})
	}
	items = append(items, remote.BatchItem{Path: "/d/.meshmount-x.tmp", Source: text("x")},
		remote.BatchItem{Path: "/d/large", Source: remotetest.Bytes(make([]byte, batchSize+1))},
		remote.BatchItem{Path: "/d/\xff", Source: text("x")})
	results, err := b.PutBatch(t.Context(), items)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		_, name := remote.Split(items[i].Path)
		want := remote.Kind(0)
		switch {
		case name == "\xff", isTemp(name):
			want = remote.Invalid
		case slices.Contains(odd, name) && name != odd[4], name == "large":
			want = remote.Unsupported
		}
		if (r.Err == nil) != (want == 0) || r.Err != nil && remote.KindOf(r.Err) != want {
			t.Errorf("%q: %v, want %v", name, r.Err, want)
		}
	}
	if n := len(names(t, b, "/d")); n != 3+len(good)+1 {
		t.Errorf("%d names", n)
	}
	wantNoLeftovers(t, connect(t, z, "alice"), "odd names")
}

// TestBatchRights leaves alone what is in collections where the extraction is not allowed,
// and does what it can in others.
func TestBatchRights(t *testing.T) {
	z := startZone(t, zone.Options{})
	root, alice := project(t, z)
	home := dial(t, options(z, z.Addr()))
	mkdir(t, home, "/write", "/own", "/delete", "/read")
	for _, level := range []string{"write", "own", "read"} {
		alice.grant(level, "bob", root+"/"+level)
	}
	alice.grant("delete_object", "bob", root+"/delete")
	b := dial(t, bobs(z, root))
	mustBatch(t, b, smalls("/own", 3))
	mustBatch(t, b, smalls("/delete", 3))
	wantAlone(t, b, smalls("/write", 3), "a collection to write")
	wantAlone(t, b, smalls("/read", 3), "a collection to read")
	if b.Batches().Files == 0 {
		t.Error("no batches any more")
	}
	// Above both nothing is allowed: the second time it is done below.
	both := append(smalls("/own", 3), smalls("/delete", 3)...)
	for i := range both {
		both[i].Path += "-again"
	}
	wantAlone(t, b, both, "two collections")
	results, err := b.PutBatch(t.Context(), both)
	if err != nil || results[0].Err != nil || remote.KindOf(results[3].Err) != remote.Unsupported {
		t.Errorf("%v, %v", results, err)
	}
	if got := counted(z, func() { wantAlone(t, b, smalls("/write", 3), "again") }); len(got) > 0 {
		t.Errorf("what is known is asked again: %v", got)
	}
	rods := startAdmin(t, z, root)
	mkdir(t, home, "/admin")
	alice.grant("own", "rods", root+"/admin")
	for _, r := range mustBatch(t, rods, smalls("/admin", 3)) {
		if !r.Entry.Access.Can(remote.AccessRename) {
			t.Errorf("an administrator's own file: %b", r.Entry.Access)
		}
	}
	wantNoLeftovers(t, alice, "rights")
}

// startAdmin is an administrator's view of a collection.
func startAdmin(t *testing.T, z *zone.Zone, root string) *Backend {
	t.Helper()
	opts := bobs(z, root)
	opts.User = "rods"
	opts.Password = func(context.Context) (remote.Secret, error) { return remote.NewSecret("rods"), nil }
	return dial(t, opts)
}

// TestBatchInherits stores files in a collection whose permissions they inherit.
func TestBatchInherits(t *testing.T) {
	z := startZone(t, zone.Options{})
	editor(t, z)
	b := dial(t, options(z, z.Addr()))
	alone := put(t, b, "/alone", "x", fresh)
	for _, r := range mustBatch(t, b, smalls("/", 3)) {
		if r.Entry.Access != alone.Access {
			t.Errorf("access is %b, alone %b", r.Entry.Access, alone.Access)
		}
	}
	alice := connect(t, z, "alice")
	rights := func(name string) string {
		return strings.Join(alice.rows([]int{wire.ColDataAccessUserID, wire.ColDataAccessType},
			wire.Where{Column: wire.ColDataName, Cond: wire.Equal(name)}), ", ")
	}
	if got, want := rights("f0001"), rights("alone"); got != want {
		t.Errorf("permissions are %s, alone %s", got, want)
	}
}

// TestBatchResource stores files on the resource that was asked for.
func TestBatchResource(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.Resource = "resc2"
	mustBatch(t, dial(t, opts), smalls("/", 3))
	alice := connect(t, z, "alice")
	for _, name := range alice.rows([]int{wire.ColDataRescName}, wire.Where{Column: wire.ColDataName, Cond: wire.Like("f%")}) {
		if name != "resc2" {
			t.Errorf("a file lies on %s", name)
		}
	}
}

// TestBatchChecksums has the server compute a checksum of each file.
func TestBatchChecksums(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.Checksums = true
	b := dial(t, opts)
	items := smalls("/", 5)
	got := counted(z, func() {
		for i, r := range mustBatch(t, b, items) {
			if want := parseChecksum(checksumOf([]byte(smallText(items[i].Path)))); r.Entry.Checksum != want || r.Entry.Provisional {
				t.Errorf("%+v", r.Entry)
			}
		}
	})
	if got["checksum"] != 1+len(items) {
		t.Errorf("%v", got)
	}
	when := time.Unix(1e9, 0)
	mkdir(t, b, "/d")
	stat(t, b, "/d")
	timed := smalls("/d", 5)
	for i := range timed {
		timed[i].Attrs.MTime = &when
	}
	// For the parents and for both kinds of names; the upload asks four; and two looks at all
	// objects and marks: behind the extraction, and behind checksums and times.
	const questions = 3 + 4 + 2 + 2
	got = counted(z, func() {
		for _, r := range mustBatch(t, b, timed) {
			if r.Entry.Checksum.Hex == "" || !r.Entry.MTime.Equal(when) {
				t.Errorf("%+v", r.Entry)
			}
		}
	})
	if got["query"] != questions || got["touch"] != 5 || got["checksum"] != 6 {
		t.Errorf("5 files with times take the calls %v", got)
	}
}

// TestBatchOfManyPieces has an archive that goes in pieces: nobody looks for another one in its
// place before it is made, since its collection is new.
func TestBatchOfManyPieces(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := farAway(t, z)
	b := dial(t, opts)
	mkdir(t, b, "/d")
	stat(t, b, "/d")
	var items []remote.BatchItem
	for i := range 6 {
		items = append(items, remote.BatchItem{Path: fmt.Sprint("/d/f", i), Source: remotetest.Bytes(content(1<<20, byte(i)))})
	}
	got := counted(z, func() { mustBatch(t, b, items) })
	delete(got, "descriptor info")
	want := map[string]int{"create collection": 1, "open": 1, "write": 2, "close": 1, "extract": 1, "checksum": 2, "remove collection": 1, "query": 13}
	if !maps.Equal(got, want) {
		t.Errorf("an archive of two pieces takes the calls %v, want %v", got, want)
	}
}
