package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// wrapped is a Cached over memory, with counts and faults in between.
type wrapped struct {
	*Cached
	memory *memory.Backend
	faulty *remotetest.FaultyBackend
	seen   *remote.Observed
	store  *Store
}

func wrap(t testing.TB, mopts memory.Options, p Policy) *wrapped {
	t.Helper()
	return wrapIn(t, openStore(t, filepath.Join(t.TempDir(), "c"), testOptions()), memory.New(mopts), p)
}

func wrapIn(t testing.TB, s *Store, m *memory.Backend, p Policy) *wrapped {
	t.Helper()
	w := &wrapped{memory: m, store: s}
	w.faulty = remotetest.Faulty(m, remotetest.Plan{})
	w.seen = remote.Observe(w.faulty, slog.New(slog.DiscardHandler))
	p.Branch = "b"
	w.Cached = s.Wrap(w.seen, p)
	t.Cleanup(func() { _ = w.Cached.Close() })
	return w
}

// reads returns the number of requests and bytes that went to the server.
func (w *wrapped) reads() (calls, received int64) {
	st := w.seen.Stats()[remote.OpRead]
	return st.Calls, st.Received
}

// file stores content and returns its Ref.
func (w *wrapped) file(t testing.TB, path string, data []byte) remote.Ref {
	t.Helper()
	e, err := w.memory.Put(context.Background(), path, remotetest.Bytes(data), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return remote.Ref{Path: path, Version: e.Version, Size: e.Size}
}

// want reads a range and compares.
func (w *wrapped) want(t testing.TB, ref remote.Ref, data []byte, off, n int) {
	t.Helper()
	p := make([]byte, n)
	got, err := w.ReadAt(t.Context(), ref, p, int64(off))
	want := data[min(off, len(data)):min(off+n, len(data))]
	if len(want) < n && err == io.EOF {
		err = nil
	} else if len(want) < n {
		t.Fatalf("read of %d at %d of %d: %v, want io.EOF", n, off, len(data), err)
	}
	if err != nil || !bytes.Equal(p[:got], want) {
		t.Fatalf("read of %d at %d of %d: %d bytes, %v, or other bytes", n, off, len(data), got, err)
	}
}

// fetched waits until no fetch is on its way, so that all is stored.
func (w *wrapped) fetched(t testing.TB) {
	t.Helper()
	for range 200_000 {
		w.mu.Lock()
		n := len(w.flights)
		w.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("a fetch does not end")
}

func TestConformance(t *testing.T) {
	for name, policy := range map[string]Policy{"Default": {}, "OneBlock": {MaxRequest: 1, Piece: -1}} {
		t.Run(name, func(t *testing.T) {
			remotetest.Run(t, func(t *testing.T) remotetest.Target {
				w := wrap(t, memory.Options{}, policy)
				return remotetest.Target{Backend: w, Stall: w.faulty.Stall, LargeDir: 200, LargeFile: 1<<20 + 3}
			})
		})
	}
}

// TestModelUnderFaults runs random operations over a failing server, which Retry above
// the cache must make look like a good one.
func TestModelUnderFaults(t *testing.T) {
	retry := remote.RetryOptions{Tries: 30, Wait: 50 * time.Microsecond, MaxWait: time.Millisecond}
	s := openStore(t, filepath.Join(t.TempDir(), "c"), testOptions())
	var faulty *remotetest.FaultyBackend
	remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
		s.DropBranch("b") // versions of the next backend in memory begin anew
		w := wrapIn(t, s, memory.New(memory.Options{}), Policy{})
		w.faulty.SetPlan(remotetest.Plan{Seed: 1, Rules: []remotetest.Rule{
			{P: 0.1, Fault: remotetest.FaultError}, {P: 0.1, Fault: remotetest.FaultTruncate}, {P: 0.1, Fault: remotetest.FaultLost},
		}})
		faulty = w.faulty
		return remotetest.Target{Backend: remote.Retry(w, retry)}
	})
	if n := faulty.Injected(); n < 100 {
		t.Errorf("only %d faults were injected", n)
	}
}

// TestReadsOnce reads a file in many ways: every byte comes from the server once, in
// requests of the size that is allowed, and never again after the store was reopened.
func TestReadsOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	w := wrapIn(t, s, memory.New(memory.Options{}), Policy{MaxRequest: 4 * testBlock})
	data := remotetest.Pattern(10*testBlock+777, 3)
	ref := w.file(t, "/f", data)
	w.want(t, ref, data, 0, len(data)+10)
	w.fetched(t)
	if calls, received := w.reads(); calls != 3 || received != int64(len(data)) {
		t.Errorf("%d requests for %d bytes, want 3 for %d", calls, received, len(data))
	}
	for off := 0; off < len(data); off += 50_001 {
		w.want(t, ref, data, off, 60_000)
	}
	w.want(t, remote.Ref{Path: "/f", Version: ref.Version, Size: -1}, data, len(data)-10, 100)
	if calls, _ := w.reads(); calls != 3 {
		t.Errorf("%d requests after reading again", calls)
	}
	closeStore(t, s)
	again := wrapIn(t, openStore(t, dir, testOptions()), w.memory, Policy{})
	again.want(t, ref, data, 5, len(data))
	if calls, _ := again.reads(); calls != 0 {
		t.Errorf("%d requests after the store was opened again", calls)
	}
}

// TestUnknownSize reads without knowing where the file ends, at all kinds of ends.
func TestUnknownSize(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	for n, size := range []int{0, 1, testBlock - 1, testBlock, testBlock + 1, 3 * testBlock} {
		data := remotetest.Pattern(size, byte(n))
		ref := w.file(t, "/f", data)
		ref.Size = -1
		for _, off := range []int{0, 1, testBlock - 1, testBlock, size, size + testBlock} {
			for range 2 {
				w.want(t, ref, data, off, size+1)
				w.fetched(t)
			}
		}
	}
}

// TestWrongSize has a caller that knows another size than the server.
func TestWrongSize(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	data := remotetest.Pattern(1000, 1)
	ref := w.file(t, "/f", data)
	w.want(t, ref, data, 0, 1000)
	w.fetched(t)
	long := ref
	long.Size = 2000
	if n, err := w.ReadAt(t.Context(), long, make([]byte, 2000), 0); err != io.EOF || n != 1000 {
		t.Errorf("a cached file that is shorter than thought: %d, %v", n, err)
	}
	other := w.file(t, "/g", data)
	other.Size = 2000
	if n, err := w.ReadAt(t.Context(), other, make([]byte, 2000), 0); !errors.Is(err, remote.Corrupt) {
		t.Errorf("a file that is shorter than thought: %d, %v", n, err)
	}
}

// TestChanged changes a file under an open reader: cached blocks of the old version
// stay, the others give Changed, and the new version is never mixed in.
func TestChanged(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{Piece: -1})
	old := remotetest.Pattern(4*testBlock, 1)
	before := w.file(t, "/f", old)
	w.want(t, before, old, testBlock, 10)
	w.fetched(t)
	fresh := remotetest.Pattern(4*testBlock, 2)
	after := w.file(t, "/f", fresh)
	w.want(t, before, old, testBlock+1000, testBlock-1000)
	for _, off := range []int64{0, testBlock + 1, 2 * testBlock} {
		if _, err := w.ReadAt(t.Context(), before, make([]byte, testBlock), off); !errors.Is(err, remote.Changed) {
			t.Errorf("old version at %d: %v", off, err)
		}
	}
	w.want(t, after, fresh, 0, len(fresh))
	w.fetched(t)
	w.want(t, before, old, testBlock, testBlock)
}

// TestProvisional wants a version that was not proven cached apart from the proven one.
func TestProvisional(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	w := wrap(t, memory.Options{WeakVersions: true, Granularity: time.Second, Clock: func() time.Time { return now }}, Policy{})
	first, second := remotetest.Pattern(5000, 1), remotetest.Pattern(5000, 2)
	w.file(t, "/f", first)
	e, err := w.Stat(t.Context(), "/f")
	if err != nil || !e.Provisional {
		t.Fatalf("%+v, %v", e, err)
	}
	ref := remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}
	w.want(t, ref, first, 0, 5000)
	w.fetched(t)
	if again := w.file(t, "/f", second); again.Version != ref.Version {
		t.Fatal("the test needs a server with one version for two contents")
	}
	now = now.Add(2 * time.Second)
	if e, err = w.Stat(t.Context(), "/f"); err != nil || e.Provisional {
		t.Fatalf("%+v, %v", e, err)
	}
	w.want(t, ref, second, 0, 5000)
}

// TestSparse reads 4 KiB here and there: the server sends pieces, a block that is read
// again and again is fetched whole and kept.
func TestSparse(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	data := remotetest.Pattern(60*testBlock, 1)
	ref := w.file(t, "/f", data)
	const n = 25
	for i := range n {
		block := (i*37 + 11) % 60
		w.want(t, ref, data, block*testBlock+1000*i, 4096)
	}
	w.fetched(t)
	calls, received := w.reads()
	if received > n*2*64<<10 || calls > n*2 {
		t.Errorf("%d reads of 4 KiB cost %d requests and %d bytes", n, calls, received)
	}
	w.want(t, ref, data, 11*testBlock+10, 4096) // in memory
	if more, _ := w.reads(); more != calls {
		t.Error("a piece was fetched twice")
	}
	for i := range 2 * wholeAfter {
		w.want(t, ref, data, (30-10*(i%2))*testBlock+i*15_000, 4096)
		w.want(t, ref, data, 45*testBlock+i*4096, 4096)
		w.fetched(t)
	}
	if !w.store.Has(w.key(ref, 45)) {
		t.Error("a block that is read often is not kept")
	}
}

// TestPieceMemory bounds the pieces in memory.
func TestPieceMemory(t *testing.T) {
	s := newSparse(1000)
	for n := range 50 {
		s.put(unit{key("/f", n), 0}, make([]byte, 100))
	}
	if s.held != 1000 || len(s.pieces) != 10 || s.order.Len() != 10 {
		t.Errorf("%d bytes in %d pieces", s.held, len(s.pieces))
	}
	if s.get(unit{key("/f", 49), 0}) == nil || s.get(unit{key("/f", 0), 0}) != nil {
		t.Error("the wrong pieces are kept")
	}
	s.forget("/f")
	if s.held != 0 || len(s.pieces) != 0 {
		t.Errorf("%d bytes are left", s.held)
	}
}

func TestWarmPrimeInvalidate(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{MaxRequest: 2 * testBlock})
	data := remotetest.Pattern(5*testBlock+5, 1)
	ref := w.file(t, "/f", data)
	for range 2 {
		if err := w.Warm(t.Context(), ref, 100, int64(len(data))); err != nil {
			t.Fatal(err)
		}
	}
	calls, received := w.reads()
	if calls != 3 || received != int64(len(data)) {
		t.Errorf("warming took %d requests for %d bytes", calls, received)
	}
	w.want(t, ref, data, 0, len(data))
	primed := w.file(t, "/p", data)
	if err := w.Prime(primed, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	w.want(t, primed, data, 0, len(data))
	if now, _ := w.reads(); now != calls {
		t.Errorf("%d requests for what was warm or primed", now-calls)
	}
	w.Invalidate("/f")
	w.want(t, ref, data, 0, len(data))
	w.want(t, primed, data, 0, len(data))
	if _, now := w.reads(); now != received+int64(len(data)) {
		t.Errorf("%d bytes were fetched after Invalidate", now-received)
	}
	if err := w.Prime(ref, bytes.NewReader(data[:10]), 100); err == nil {
		t.Error("Prime from a source that is too short")
	}
	if err := w.Warm(t.Context(), remote.Ref{Path: "/none", Version: "v", Size: 10}, 0, 10); !errors.Is(err, remote.NotExist) {
		t.Errorf("Warm of nothing: %v", err)
	}
}

// TestSharedFetch has many readers of one block: one request, which survives the end
// of the reader that began it, and ends with the last.
func TestSharedFetch(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	data := remotetest.Pattern(testBlock, 1)
	ref := w.file(t, "/f", data)
	resume := w.faulty.Stall()
	first, cancelFirst := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	readers.Go(func() {
		if _, err := w.ReadAt(first, ref, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("the first reader: %v", err)
		}
	})
	w.waiters(t, 1)
	for n := range 8 {
		readers.Go(func() { w.want(t, ref, data, n*100, 500) })
	}
	w.waiters(t, 9)
	cancelFirst()
	w.waiters(t, 8)
	resume()
	readers.Wait()
	w.fetched(t)
	if calls, _ := w.reads(); calls != 1 {
		t.Errorf("%d requests for 9 readers", calls)
	}

	other := w.file(t, "/g", data)
	defer w.faulty.Stall()()
	ctx, cancel := context.WithCancel(t.Context())
	readers.Go(func() {
		if _, err := w.ReadAt(ctx, other, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("the only reader: %v", err)
		}
	})
	w.waiters(t, 1)
	cancel()
	readers.Wait()
	w.fetched(t) // though the server stalls: the request was cancelled
}

// waiters waits until n parts wait for fetches.
func (w *wrapped) waiters(t *testing.T, n int) {
	t.Helper()
	for range 200_000 {
		got := 0
		w.mu.Lock()
		for _, f := range w.flights {
			got += f.waiters
		}
		w.mu.Unlock()
		if got == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("there are not %d waiters", n)
}

// TestCloseWhileReading closes a backend whose server has stopped to answer.
func TestCloseWhileReading(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	ref := w.file(t, "/f", remotetest.Pattern(testBlock, 1))
	w.faulty.Stall()
	var reader sync.WaitGroup
	reader.Go(func() {
		if _, err := w.ReadAt(t.Context(), ref, make([]byte, 10), 0); !errors.Is(err, remote.BadHandle) {
			t.Errorf("the reader: %v", err)
		}
	})
	w.waiters(t, 1)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	reader.Wait()
	if _, err := w.ReadAt(t.Context(), ref, make([]byte, 10), 0); !errors.Is(err, remote.BadHandle) {
		t.Errorf("after Close: %v", err)
	}
}

// TestStoreOff reads through a store that does not work.
func TestStoreOff(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	data := remotetest.Pattern(3*testBlock, 1)
	ref := w.file(t, "/f", data)
	w.want(t, ref, data, 0, testBlock)
	w.store.turnOff(errors.New("test"))
	w.want(t, ref, data, 0, len(data))
	if err := w.Warm(t.Context(), ref, 0, ref.Size); err != nil {
		t.Error(err)
	}
}
