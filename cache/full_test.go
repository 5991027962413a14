package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfs mounts a small file system and returns a directory in it.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	point := t.TempDir()
	if err := unix.Mount("meshmount-test", point, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Fatalf("these tests need root to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		// Detached, as an index that was abandoned keeps its log mapped.
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return point
}

// hog takes all the space that is left.
func hog(t *testing.T, point string) (release func()) {
	t.Helper()
	path := filepath.Join(point, "hog")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size >= 512; size /= 2 {
		for p := make([]byte, size); err == nil; {
			_, err = file.Write(p)
		}
		err = nil
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

// TestFullBefore opens a store where there is no space for it.
func TestFullBefore(t *testing.T) {
	point := tmpfs(t, 8<<20)
	for _, full := range []bool{false, true} {
		if full {
			hog(t, point)
		}
		s := openStore(t, filepath.Join(point, fmt.Sprint("c", full)), testOptions())
		if st := s.Stats(); st.State != StateOff || !strings.Contains(st.Reason, "space") {
			t.Errorf("%+v", st)
		}
		if k := key("/x", 0); put(t, s, k) || checkGet(t, s, k, 0, 1) || s.Has(k) {
			t.Error("a store without space works")
		}
		s.Drop("b", "/x")
		closeStore(t, s)
	}
}

// TestFullWhile fills the disk under a running store: what is there is served, what
// comes goes into the space it has, nothing dies, and it goes on when there is space.
func TestFullWhile(t *testing.T) {
	point := tmpfs(t, 64<<20)
	dir := filepath.Join(point, "c")
	s := openStore(t, dir, testOptions())
	for n := range 20 {
		put(t, s, key("/a", n))
	}
	release := hog(t, point)
	for n := range 20 {
		if !checkGet(t, s, key("/a", n), 0, testBlock) {
			t.Errorf("block %d is gone with the free space", n)
		}
	}
	for n := range 8000 { // more than one flush of the index
		k := Key{Branch: "b", Object: fmt.Sprint("/small", n), Version: "v"}
		if s.Put(k, content(k, 64), Normal) {
			p := make([]byte, 64)
			if got, ok := s.Get(k, 0, p); !ok || got != 64 || string(p) != string(content(k, 64)) {
				t.Fatalf("block %d: %d %v", n, got, ok)
			}
		}
	}
	if st := s.Stats(); st.State != StateReady || st.Puts < 8000 {
		t.Errorf("with a full disk, and its own space reserved: %+v", st)
	}
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	last := Key{Branch: "b", Object: "/small7999", Version: "v"}
	if st := s.Stats(); st.State != StateReady || !s.Has(last) {
		t.Errorf("opened on a full disk: %+v", st)
	}
	closeStore(t, s)
	release()
	s = openStore(t, dir, testOptions())
	if k := key("/z", 0); !put(t, s, k) || !checkGet(t, s, k, 0, testBlock) {
		t.Errorf("with space again: %+v", s.Stats())
	}
}

// TestReserve has others take space: the store gives its own back, down to the reserve.
func TestReserve(t *testing.T) {
	point := tmpfs(t, 96<<20)
	opts := Options{Size: 64 << 20, BlockSize: testBlock, Reserve: 30 << 20}
	s := openStore(t, filepath.Join(point, "c"), opts)
	for n := range 500 {
		put(t, s, key("/a", n))
		if free, err := freeSpace(point); err != nil || free < opts.Reserve {
			t.Fatalf("%d bytes are free, %d must stay, %v", free, opts.Reserve, err)
		}
	}
	before := s.Stats()
	if err := os.WriteFile(filepath.Join(point, "other"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	after := s.Stats()
	if free, err := freeSpace(point); err != nil || free < opts.Reserve || after.Slots >= before.Slots || after.State != StateReady {
		t.Errorf("%d bytes are free, %d must stay, %v; %+v", free, opts.Reserve, err, after)
	}
	for n := range 500 {
		checkGet(t, s, key("/a", n), 0, testBlock)
	}
	if err := os.WriteFile(filepath.Join(point, "more"), make([]byte, 30<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.State != StateFull || put(t, s, key("/b", 0)) {
		t.Errorf("without space: %+v", st)
	}
	if err := os.Remove(filepath.Join(point, "more")); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.State != StateReady || !put(t, s, key("/b", 0)) {
		t.Errorf("with space again: %+v", st)
	}
}

// TestRemoved deletes the directory under a store that is in use.
func TestRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	log := &lines{}
	opts := testOptions()
	opts.Logger = log.logger()
	s := openStore(t, dir, opts)
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			for n := range 200 {
				k := key(fmt.Sprint("/u", user), n%20)
				put(t, s, k)
				checkGet(t, s, k, 0, testBlock)
				if user == 0 && n == 50 {
					for os.RemoveAll(dir) != nil { // others make files in it meanwhile
					}
				}
			}
		})
	}
	users.Wait()
	if st := s.Stats(); st.State != StateOff || !strings.Contains(st.Reason, "gone") {
		t.Errorf("%+v", st)
	}
	if k := key("/u0", 0); put(t, s, k) || checkGet(t, s, k, 0, 1) {
		t.Error("a store without its directory works")
	}
	closeStore(t, s)
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is back")
	}
	if n := log.count("WARN"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, log)
	}
	closeStore(t, openStore(t, dir, testOptions()))
}

// TestBallastGone has others take the very space that is reserved for the index. Badger
// is then not let to write new files, and its log survives.
func TestBallastGone(t *testing.T) {
	point := tmpfs(t, 64<<20)
	dir := filepath.Join(point, "c")
	s := openStore(t, dir, testOptions())
	for n := range 20 {
		put(t, s, key("/a", n))
	}
	if err := s.index.ballast.release(); err != nil {
		t.Fatal(err)
	}
	release := hog(t, point)
	for n := 0; s.Stats().State == StateReady && n < 8000; n++ {
		k := Key{Branch: "b", Object: "/again", Version: "v", Index: uint32(n % 4)}
		s.Drop("b", "/again")
		s.Put(k, content(k, 64), Normal)
	}
	if st := s.Stats(); st.State != StateFull {
		t.Errorf("the index cannot be flushed: %+v", st)
	}
	check := func(when string) {
		for n := range 20 {
			if !checkGet(t, s, key("/a", n), 0, testBlock) {
				t.Errorf("%s: block %d is not served", when, n)
			}
		}
	}
	check("full")
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	if st := s.Stats(); st.State != StateOff {
		t.Errorf("opened without space for the index: %+v", st)
	}
	closeStore(t, s)
	release()
	s = openStore(t, dir, testOptions())
	check("with space again")
}

// TestReserveAtOpen opens a store on a disk that has become too full for it: it gives
// space back, and serves the rest.
func TestReserveAtOpen(t *testing.T) {
	point := tmpfs(t, 96<<20)
	dir := filepath.Join(point, "c")
	opts := Options{Size: 64 << 20, BlockSize: testBlock, Reserve: 20 << 20}
	s := openStore(t, dir, opts)
	for n := range 300 {
		put(t, s, key("/a", n))
	}
	before := s.Stats()
	closeStore(t, s)
	if err := os.WriteFile(filepath.Join(point, "other"), make([]byte, 30<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, opts)
	served := 0
	for n := range 300 {
		if checkGet(t, s, key("/a", n), 0, testBlock) {
			served++
		}
	}
	free, err := freeSpace(point)
	if after := s.Stats(); err != nil || free < opts.Reserve || after.Slots >= before.Slots || served == 0 {
		t.Errorf("%d bytes are free, %d must stay, %d blocks served; %+v", free, opts.Reserve, served, after)
	}
}

// TestReadOnly opens a store on a file system that takes no change.
func TestReadOnly(t *testing.T) {
	point := tmpfs(t, 64<<20)
	dir := filepath.Join(point, "c")
	closeStore(t, openStore(t, dir, testOptions()))
	if err := unix.Mount("", point, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, filepath.Join(point, "new")} {
		if _, err := Open(dir, testOptions()); err == nil || !strings.Contains(err.Error(), "read-only file system") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
