package irods

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// A batch is one archive, which the server extracts in place: into the directory that all
// its files have in common. To extract it aside and rename the files into place would cost
// more than putting them one by one (measured on 5.0.2: 4 ms for each file that is
// extracted, 9 ms and more for each rename). What extraction in place is worth, by the
// server's source and by measurement:
//
//   - All of the archive is unpacked in the vault before the first file is registered, and
//     each file is registered as a whole. No half file is ever seen under its name,
//     whoever dies. Up to 50 files become visible together.
//   - It replaces nothing. Names that are taken are looked for before, since the server
//     refuses those on the same storage only after it has tried, and gives up the 50
//     others with one that is on another storage. Between that look and the registration,
//     for seconds, somebody else may take a name; then the server refuses ours, and what
//     is there is compared with ours by its checksum.
//   - Collections that are missing would be made. The parents are looked at before; one
//     that somebody removes in these seconds comes back.
//   - Nothing tells if the archive is cut off or the storage is full: files have their
//     sizes, and zeros. So the archive is extracted only after the server has proved its
//     checksum, and guards lie between the files and behind the last one, which are read
//     after it. Room that ended and came back between two guards would go unnoticed,
//     unless Options.Checksums has each file proved.
//   - The files lie on the storage of the archive, with its permission bits: without
//     those of their owner the server itself could not open them.
//   - Files with wrong bytes, if there are any, are removed again; who looks at them in
//     between sees them.

// What a batch holds: the server takes 4 ms for each file whatever its size, and says
// nothing meanwhile.
const (
	batchFiles  = 1000
	batchBytes  = 32 << 20
	batchSize   = 1 << 20
	batchAgents = 2 // that are of use at a time
)

// Batches implements remote.Batcher. It is zero for a while after an extraction that
// failed, and for good if the server has none.
func (b *Backend) Batches() remote.Batches {
	if b.batching.off() {
		return remote.Batches{}
	}
	return remote.Batches{Files: batchFiles, Bytes: batchBytes, Size: batchSize, Parallel: min(batchAgents, b.opts.MaxConns)}
}

const opBatch = "putbatch"

// PutBatch implements remote.Batcher. Where nothing goes wrong it is a round trip to look,
// those of one upload, one for the extraction and the look behind it, one for checksums
// (Options.Checksums), and one for times and permission bits that the extraction does not keep
// and that may not come later, and another look. Files whose names the extraction
// may not hold go alone, as do all if there is not the permission for it.
func (b *Backend) PutBatch(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	if err := remote.ContextErr(ctx); err != nil {
		return nil, err
	}
	if b.pool.ended() {
		return nil, &remote.Error{Op: opBatch, Kind: remote.BadHandle, Err: errClosed}
	}
	t := &batch{b: b, items: items, results: make([]remote.BatchResult, len(items))}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	return t.results, nil
}

// batch is one PutBatch.
type batch struct {
	b       *Backend
	items   []remote.BatchItem
	results []remote.BatchResult
	in      []int // items that are still part of it

	root   string // the directory that the archive is extracted into
	hidden string // the collection that holds the archive
	tar    string // the archive
	joins  bool
	after  int64 // the archive's identifier: what is new has a higher one
	guards []guard

	littered bool  // hidden may be there
	sent     bool  // the extraction may be under way
	answered bool  // it has ended
	refusal  error // with this
	proved   bool  // the guards are whole
	alien    bool  // the server's checksums are of a kind that is not known
	seen     map[string]*object
	dated    bool // the server has computed checksums since
}

var (
	errAlone     = errors.New("it cannot go in a batch")
	errExtracted = errors.New("the server has not extracted it")
)

// settle takes an item out with an error.
func (t *batch) settle(i int, kind remote.Kind, cause error) {
	t.fault(i, &remote.Error{Op: opBatch, Path: t.items[i].Path, Kind: kind, Err: cause})
}

func (t *batch) fault(i int, err error) {
	t.results[i] = remote.BatchResult{Err: err}
	t.in = slices.DeleteFunc(t.in, func(o int) bool { return o == i })
}

// allAlone takes all items out.
func (t *batch) allAlone(cause error) {
	for _, i := range slices.Clone(t.in) {
		t.settle(i, remote.Unsupported, cause)
	}
}

// leastFiles is what a batch is made for: one file is faster alone.
const leastFiles = 2

func (t *batch) run(ctx context.Context) error {
	t.sift()
	t.choose()
	if len(t.in) < leastFiles || t.b.batching.off() {
		t.allAlone(errAlone)
		return nil
	}
	defer t.tidy()
	if err := t.prepare(ctx); err != nil {
		return sure(err)
	}
	if len(t.in) < leastFiles {
		t.allAlone(errAlone)
		return nil
	}
	if err := t.upload(ctx); err != nil || len(t.in) == 0 {
		return sure(err)
	}
	return t.store(ctx)
}

// sift takes out what cannot go in a batch by what is known here.
func (t *batch) sift() {
	for i := range t.items {
		t.in = append(t.in, i)
	}
	for i, it := range t.items {
		err := t.b.check(opBatch, it.Path)
		switch {
		case err != nil:
			t.fault(i, err)
		case it.Path == "/":
			t.settle(i, remote.IsDir, nil)
		case it.Source.Size() > batchSize || !packable(t.b.full(it.Path)) || t.b.tears.has(t.b.full(it.Path)):
			t.settle(i, remote.Unsupported, errAlone)
		}
	}
}

// choose finds the directory to extract into: that which all have in common, or if that is
// not allowed the one of the first file.
func (t *batch) choose() {
	if len(t.in) == 0 {
		return
	}
	t.root, _ = remote.Split(t.items[t.in[0]].Path)
	first := t.root
	for _, i := range t.in {
		for !within(t.items[i].Path, t.root) {
			t.root, _ = remote.Split(t.root)
		}
	}
	if t.b.batching.barred(t.root) {
		t.root = first
	}
	for _, i := range slices.Clone(t.in) {
		if !within(t.items[i].Path, t.root) || t.b.batching.barred(t.root) {
			t.settle(i, remote.Unsupported, errAlone)
		}
	}
	t.hidden = remote.Join(t.root, tempName(t.items[0].Tag))
}

// forgo takes all items out after a failure that is likely to come again.
func (t *batch) forgo(err error) {
	t.b.batching.failed(err)
	t.b.opts.Logger.Debug("a batch of small files is put one by one", "directory", t.root, "err", err)
	t.allAlone(err)
}

// batching is what is known of the server's extraction. It is safe for concurrent use.
type batching struct {
	mu    sync.Mutex
	never bool
	until time.Time
	pause time.Duration
	roots map[string]time.Time // where it is not allowed
	swept sync.Map             // directories that were looked through for what others have left
}

// The pauses after a failure of extraction, and how long it is believed that it is not
// allowed in a collection.
const (
	batchPause    = time.Minute
	batchPauseMax = time.Hour
	barredLife    = 10 * time.Minute
	mostBarred    = 1000
)

func (x *batching) off() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.never || time.Now().Before(x.until)
}

// failed notes that an extraction has stored nothing.
func (x *batching) failed(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch code(err) {
	case wire.CodeUnknownAPI, wire.CodeNotSupported, wire.CodeNotImplemented:
		x.never = true
	}
	x.pause = min(max(2*x.pause, batchPause), batchPauseMax)
	x.until = time.Now().Add(x.pause)
}

func (x *batching) worked() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pause = 0
}

// bar notes that we may not extract into a directory.
func (x *batching) bar(root string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.roots == nil || len(x.roots) >= mostBarred {
		x.roots = map[string]time.Time{}
	}
	x.roots[root] = time.Now()
}

func (x *batching) barred(root string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.roots[root]
	return ok && time.Since(at) < barredLife
}
