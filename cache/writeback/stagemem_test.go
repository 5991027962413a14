package writeback

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// pattern is the content of a base version.
func pattern(size int) []byte { return remotetest.Pattern(size, 7) }

// stageOver makes a staging file over a base version of that size.
func stageOver(t *testing.T, home *Stages, size int64) *Stage {
	t.Helper()
	st, err := home.New(nil, size, remote.Entry{Path: "/f", Type: remote.File, Size: size, Version: "v"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Release)
	return st
}

// staysAs wants a stage to read as data, without a hole.
func staysAs(t *testing.T, st *Stage, data []byte) {
	t.Helper()
	got := make([]byte, len(data)+10)
	n, hole, err := st.ReadStaged(got, 0)
	if err != nil || hole != nil || !bytes.Equal(got[:n], data) {
		t.Errorf("%d bytes of %d, hole %v, %v", n, len(data), hole, err)
	}
	for _, off := range []int{1, 4095, len(data) / 2} {
		part := make([]byte, min(100, len(data)-off))
		if n, hole, err := st.ReadStaged(part, int64(off)); err != nil || hole != nil || !bytes.Equal(part[:n], data[off:off+len(part)]) {
			t.Errorf("at %d: %d bytes, hole %v, %v", off, n, hole, err)
		}
	}
}

// TestHold has the base of a file in memory, under what was written, and brings it to the
// disk.
func TestHold(t *testing.T) {
	home, err := OpenStages(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(100_000)
	st := stageOver(t, home, int64(len(data)))
	if _, err := st.WriteAt([]byte("mine"), 5000); err != nil {
		t.Fatal(err)
	}
	fault := errors.New("a fault")
	if ok, err := st.Hold(func(remote.Ref, []byte) error { return fault }); ok || !errors.Is(err, fault) || st.Held() || home.held.Load() != 0 {
		t.Errorf("a failed fetch: %v, %v, %d bytes held", ok, err, home.held.Load())
	}
	ok, err := st.Hold(func(ref remote.Ref, p []byte) error {
		if ref.Version != "v" || copy(p, data) != len(data) {
			t.Errorf("asked for %d bytes of %+v", len(p), ref)
		}
		return nil
	})
	if !ok || err != nil || !st.Held() {
		t.Fatalf("not held: %v", err)
	}
	want := bytes.Clone(data)
	copy(want[5000:], "mine")
	staysAs(t, st, want)
	if len(st.Missing(0, st.Size())) == 0 {
		t.Error("what is in memory counts as on the disk")
	}
	if _, err := st.WriteAt([]byte("more"), 90_000); err != nil {
		t.Fatal(err)
	}
	copy(want[90_000:], "more")
	staysAs(t, st, want)
	if err := st.Unhold(); err != nil || st.Held() || len(st.Missing(0, st.Size())) > 0 || home.held.Load() != 0 {
		t.Errorf("not on the disk: %v, %d bytes held", err, home.held.Load())
	}
	staysAs(t, st, want)
}

// TestHoldBounds: neither one file nor all together take more memory than they may, and what
// is released is free again.
func TestHoldBounds(t *testing.T) {
	home, err := OpenStages(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(remote.Ref, []byte) error { return nil }
	if ok, err := stageOver(t, home, maxHeld+1).Hold(zeros); ok || err != nil {
		t.Errorf("too large a file is held (%v)", err)
	}
	var all []*Stage
	for range allHeld / maxHeld {
		st, err := home.New(nil, maxHeld, remote.Entry{Path: "/f", Type: remote.File, Size: maxHeld, Version: "v"})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := st.Hold(zeros); !ok || err != nil {
			t.Fatalf("not held: %v", err)
		}
		all = append(all, st)
	}
	small := stageOver(t, home, 1)
	if ok, err := small.Hold(zeros); ok || err != nil {
		t.Errorf("too many are held (%v)", err)
	}
	for _, st := range all {
		st.Release()
	}
	if ok, err := small.Hold(zeros); !ok || err != nil {
		t.Errorf("nothing is held any more, and there is no room (%v)", err)
	}
}

// TestDraft puts a base version into the file in pieces that count only when all are there.
func TestDraft(t *testing.T) {
	home, err := OpenStages(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := pattern(50_000)
	st := stageOver(t, home, int64(len(data)))
	if err := st.Draft(data[:30_000], 0); err != nil {
		t.Fatal(err)
	}
	if _, hole, _ := st.ReadStaged(make([]byte, 10), 0); hole == nil {
		t.Error("a draft is read")
	}
	if _, err := st.WriteAt([]byte("mine"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := st.Draft(data, 0); err != nil {
		t.Fatal(err)
	}
	if st.Adopt(remote.Ref{Path: "/f", Version: "other", Size: st.Size()}) {
		t.Error("a draft of another version counts")
	}
	if !st.Adopt(st.Base()) {
		t.Error("the draft does not count")
	}
	want := bytes.Clone(data)
	copy(want[1000:], "mine")
	staysAs(t, st, want)
}

// TestDraftOnFullDisk gives back what a draft took that has no room.
func TestDraftOnFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk takes root")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skip("no disk can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	home, err := OpenStages(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := stageOver(t, home, 4<<20)
	if err := st.Draft(pattern(512<<10), 0); err != nil {
		t.Fatal(err)
	}
	if err := st.Draft(pattern(1<<20), 512<<10); kindOfDisk(err) != remote.NoSpace {
		t.Fatalf("a draft that does not fit: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, 900<<10), 0o600); err != nil {
		t.Errorf("what was drafted in vain is not given back: %v", err)
	}
}
