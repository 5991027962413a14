package remotetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// batchChecks are about remote.Batcher; a backend without it passes.
var batchChecks = []check{
	{"Batch", checkBatch},
	{"BatchRefusals", checkBatchRefusals},
	{"BatchNames", checkBatchNames},
	{"BatchAttrs", checkBatchAttrs},
	{"BatchLater", checkBatchLater},
	{"BatchOfOne", checkBatchOfOne},
}

// batcher returns the Batcher, or false if there is nothing to check.
func (e *env) batcher() (remote.Batcher, remote.Batches, bool) {
	e.Helper()
	b, ok := remote.As[remote.Batcher](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return nil, remote.Batches{}, false
	}
	most := b.Batches()
	if most.Files <= 1 {
		e.Log("the backend can do nothing in batches")
		return nil, remote.Batches{}, false
	}
	if most.Bytes < most.Size || most.Size <= 0 || most.Parallel < 1 {
		e.Errorf("bounds that contradict each other: %+v", most)
	}
	return b, most, true
}

// batch stores items, as many at a time as may be, and wants a result for each.
func (e *env) batch(b remote.Batcher, items []remote.BatchItem) (all []remote.BatchResult) {
	e.Helper()
	for some := range slices.Chunk(items, b.Batches().Files) {
		got, err := b.PutBatch(e.ctx, some)
		if err != nil {
			e.Fatalf("batch of %d: %v", len(some), err)
		}
		if len(got) != len(some) {
			e.Fatalf("batch of %d: %d results", len(some), len(got))
		}
		all = append(all, got...)
	}
	return all
}

// stored wants an item to have been stored as it is.
func (e *env) stored(it remote.BatchItem, r remote.BatchResult, content string) {
	e.Helper()
	if r.Err != nil {
		e.Errorf("%q: %v", it.Path, r.Err)
		return
	}
	if r.Entry.Path != it.Path || r.Entry.Type != remote.File || r.Entry.Size != int64(len(content)) {
		e.Errorf("%q: stored as %+v", it.Path, r.Entry)
	}
	if r.Entry.Version == "" && e.stat(it.Path).Version != "" {
		e.Errorf("%q: stored without a version", it.Path)
	}
	e.wantContent(it.Path, []byte(content))
	if now := e.stat(it.Path); !r.Entry.Provisional && now.Version != r.Entry.Version {
		e.Errorf("%q: version %q, a look shows %q", it.Path, r.Entry.Version, now.Version)
	}
}

func checkBatch(e *env) {
	b, most, ok := e.batcher()
	if !ok {
		return
	}
	e.mkdir("/d")
	e.mkdir("/d/sub")
	e.put("/d/before", []byte("before"))
	var items []remote.BatchItem
	var contents []string
	for i := range min(most.Files, 40) {
		dir := "/d"
		if i%3 == 0 {
			dir = "/d/sub"
		}
		contents = append(contents, strings.Repeat(fmt.Sprint(i, "."), i*37))
		items = append(items, remote.BatchItem{Path: fmt.Sprintf("%s/f%02d", dir, i), Source: Bytes([]byte(contents[i]))})
	}
	for i, r := range e.batch(b, items) {
		e.stored(items[i], r, contents[i])
	}
	e.wantContent("/d/before", []byte("before"))
	if got, want := len(e.list("/d"))+len(e.list("/d/sub")), len(items)+2; got != want {
		e.Errorf("%d names afterwards, want %d", got, want)
	}
}

func checkBatchRefusals(e *env) {
	b, _, ok := e.batcher()
	if !ok {
		return
	}
	e.mkdir("/d")
	e.mkdir("/d/dir")
	e.put("/d/taken", []byte("theirs"))
	e.put("/d/file", []byte("a file"))
	items := []remote.BatchItem{
		{Path: "/d/first", Source: Bytes([]byte("one"))},
		{Path: "/d/taken", Source: Bytes([]byte("ours"))},
		{Path: "/d/dir", Source: Bytes([]byte("ours"))},
		{Path: "/d/last", Source: Bytes([]byte("two"))},
	}
	want := []remote.Kind{0, remote.Exist, remote.Exist, 0}
	items = append(items,
		remote.BatchItem{Path: "/d/none/f", Source: Bytes([]byte("three"))},
		remote.BatchItem{Path: "/d/file/f", Source: Bytes([]byte("four"))})
	want = append(want, remote.NotExist, remote.NotDir)
	for i, r := range e.batch(b, items) {
		k := remote.KindOf(r.Err)
		switch {
		case want[i] == 0:
			e.stored(items[i], r, []string{"one", "", "", "two"}[i])
		case r.Err == nil:
			e.Errorf("%q: no error, want %v", items[i].Path, want[i])
		case k == remote.Unsupported, k == want[i], k == remote.IsDir && want[i] == remote.Exist, k == remote.NotExist && want[i] == remote.NotDir:
		default:
			e.Errorf("%q: %v, want %v", items[i].Path, r.Err, want[i])
		}
	}
	e.wantContent("/d/taken", []byte("theirs"))
	e.wantContent("/d/file", []byte("a file"))
	if n := len(e.list("/d")); n != 5 {
		e.Errorf("%d names afterwards, want 5", n)
	}
}

func checkBatchNames(e *env) {
	b, _, ok := e.batcher()
	if !ok {
		return
	}
	e.mkdir("/d")
	var items []remote.BatchItem
	for _, name := range oddNames() {
		items = append(items, remote.BatchItem{Path: remote.Join("/d", name), Source: Bytes([]byte("content of " + name))})
	}
	n := 0
	for i, r := range e.batch(b, items) {
		_, name := remote.Split(items[i].Path)
		if k := remote.KindOf(r.Err); r.Err != nil && (k == remote.Unsupported || e.MayRefuse(name) && (k == remote.Invalid || k == remote.NameTooLong)) {
			continue // it goes alone, or not at all
		}
		n++
		e.stored(items[i], r, "content of "+name)
	}
	if got := len(e.list("/d")); got != n {
		e.Errorf("%d names afterwards, want %d", got, n)
	}
}

// checkBatchLater: what is left of attributes is told, and setting it makes the file as if all
// had been set at once.
func checkBatchLater(e *env) {
	b, _, ok := e.batcher()
	set, can := remote.As[remote.AttrSetter](e.b)
	if !ok || !can {
		return
	}
	e.mkdir("/d")
	mtime, mode := time.Unix(1_500_000_000, 0), uint32(0o750)
	var items []remote.BatchItem
	for _, name := range []string{"/d/one", "/d/two", "/d/three"} {
		items = append(items, remote.BatchItem{Path: name, Source: Bytes([]byte("1")), Attrs: remote.Attrs{MTime: &mtime, Mode: &mode}, Later: true})
	}
	alone := e.putWith("/d/alone", []byte("1"), remote.PutOptions{Attrs: items[0].Attrs})
	for i, r := range e.batch(b, items) {
		e.stored(items[i], r, "1")
		now := e.stat(items[i].Path)
		if !now.MTime.Equal(r.Entry.MTime) || now.ModeKnown != r.Entry.ModeKnown || now.Mode != r.Entry.Mode {
			e.Errorf("%q: stored as %+v, a look shows %+v", items[i].Path, r.Entry, now)
		}
		if r.Rest != (remote.Attrs{}) {
			var err error
			if now, err = set.SetAttr(e.ctx, items[i].Path, r.Rest); err != nil {
				e.Fatal(err)
			}
		}
		if alone.MTime.Equal(mtime) && !now.MTime.Equal(mtime) || alone.ModeKnown && (!now.ModeKnown || now.Mode != alone.Mode) {
			e.Errorf("attributes are %v %o, alone %v %o", now.MTime, now.Mode, alone.MTime, alone.Mode)
		}
	}
}

func checkBatchAttrs(e *env) {
	b, _, ok := e.batcher()
	if !ok {
		return
	}
	e.mkdir("/d")
	mtime, mode := time.Unix(1_500_000_000, 0), uint32(0o750)
	items := []remote.BatchItem{
		{Path: "/d/strict", Source: Bytes([]byte("1")), Attrs: remote.Attrs{MTime: &mtime, Mode: &mode}},
		{Path: "/d/loose", Source: Bytes([]byte("22")), Attrs: remote.Attrs{MTime: &mtime}, Loose: true},
		{Path: "/d/plain", Source: Bytes([]byte("333"))},
	}
	alone := e.putWith("/d/alone", []byte("1"), remote.PutOptions{Attrs: items[0].Attrs})
	for i, r := range e.batch(b, items) {
		e.stored(items[i], r, []string{"1", "22", "333"}[i])
		now := e.stat(items[i].Path)
		if !now.MTime.Equal(r.Entry.MTime) || now.ModeKnown != r.Entry.ModeKnown || now.ModeKnown && now.Mode != r.Entry.Mode {
			e.Errorf("%q: stored as %+v, a look shows %+v", items[i].Path, r.Entry, now)
		}
		if i > 0 {
			continue
		}
		// What a Put keeps, a batch keeps, or says that it has not.
		if alone.MTime.Equal(mtime) && !now.MTime.Equal(mtime) || alone.ModeKnown && (!now.ModeKnown || now.Mode != alone.Mode) {
			e.Errorf("attributes are %v %o, alone %v %o", now.MTime, now.Mode, alone.MTime, alone.Mode)
		}
	}
}

func checkBatchOfOne(e *env) {
	b, most, ok := e.batcher()
	if !ok {
		return
	}
	if got, err := b.PutBatch(e.ctx, nil); err != nil || len(got) != 0 {
		e.Errorf("a batch of nothing has %d results: %v", len(got), err)
	}
	content := strings.Repeat("x", int(min(most.Size, 1<<20)))
	it := remote.BatchItem{Path: "/one", Source: Bytes([]byte(content))}
	r := e.batch(b, []remote.BatchItem{it})[0]
	if remote.KindOf(r.Err) != remote.Unsupported || r.Err == nil {
		e.stored(it, r, content)
	}
	e.mkdir("/d")
	empty := []remote.BatchItem{{Path: "/d/e1", Source: Bytes(nil)}, {Path: "/d/e2", Source: Bytes(nil)}}
	for i, r := range e.batch(b, empty) {
		e.stored(empty[i], r, "")
	}
}
