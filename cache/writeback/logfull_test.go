package writeback

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
)

// logTmpfs mounts a small file system.
func logTmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount the small file system that this test fills")
	}
	point := t.TempDir()
	if err := unix.Mount("meshmount-test", point, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return point
}

// logHog takes all the space that is left, and returns what gives it back.
func logHog(t *testing.T, point string) (release func()) {
	t.Helper()
	path := filepath.Join(point, "hog")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// logFill appends changes until there is no space for more, and returns how many.
func logFill(t *testing.T, j *journal, first int) (n int) {
	t.Helper()
	for ; ; n++ {
		err := j.append([]*record{recPut(first + n)}, n%100 == 0)
		if errors.Is(err, remote.NoSpace) {
			return n
		}
		if err != nil || n > 1e6 {
			t.Fatalf("change %d: %v", n, err)
		}
	}
}

// TestLogFull fills a small disk with changes: then each of them can still be parked,
// synced and done, and when that is compacted, there is space again.
func TestLogFull(t *testing.T) {
	opts := logOptions{SegmentSize: 256 << 10, Reserve: 64 << 10}
	dir := filepath.Join(logTmpfs(t, 3<<20), "j")
	j, _ := logOpen(t, dir, opts)
	n := logFill(t, j, 0)
	if n < 3000 {
		t.Errorf("only %d changes fit", n)
	}
	for range 2 { // over a restart
		logClose(t, j)
		var all []*record
		j, all = logOpen(t, dir, opts)
		if got := logIDs(all); !slices.Equal(got, logCount(n)) {
			t.Fatalf("found %d changes of %d", len(got), n)
		}
		if err := j.append([]*record{recPut(n)}, false); !errors.Is(err, remote.NoSpace) {
			t.Errorf("one more: %v", err)
		}
	}
	for id := range uint64(n) {
		logAppend(t, j, false, &record{Kind: recParked, ID: id, Cause: "permission denied"})
		if id == 1 {
			group := []*record{{Kind: recDone, ID: 0}, recPut(n)}
			if err := j.append(group, false); !errors.Is(err, remote.NoSpace) {
				t.Errorf("one more, for one that is done: %v", err)
			}
			if err := j.appendReserved(group, true); err != nil {
				t.Errorf("the same from the reserve: %v", err)
			}
		}
		logAppend(t, j, id%100 == 0, &record{Kind: recDone, ID: id})
	}
	if !j.bloated(0, false) {
		t.Error("that is not worth to be compacted")
	}
	if err := j.compact(logLive(nil)); err != nil {
		t.Fatal(err)
	}
	if again := logFill(t, j, n); again < n*9/10 {
		t.Errorf("then %d changes fit, before it were %d", again, n)
	}
	if text := j.damage(); text != "" {
		t.Errorf("damage: %s", text)
	}
}

// TestLogFullByOthers lets somebody else take all the space: what becomes of the changes
// is recorded all the same, over many restarts, and it is compacted.
func TestLogFullByOthers(t *testing.T) {
	opts := logOptions{SegmentSize: 256 << 10, Reserve: 64 << 10}
	point := logTmpfs(t, 8<<20)
	dir := filepath.Join(point, "j")
	j, _ := logOpen(t, dir, opts)
	live := map[uint64]*record{}
	for id := range 2000 {
		logAppend(t, j, false, recPut(id))
	}
	release := logHog(t, point)
	for id := range uint64(2000 + logFill(t, j, 2000)) {
		live[id] = recPut(int(id))
	}
	last := uint64(len(live))
	for id := range last - 100 {
		if id%100 == 0 { // a restart, after a kill now and then
			if id%200 == 0 {
				logClose(t, j)
			} else {
				logAbandon(t, j)
			}
			j, _ = logOpen(t, dir, opts)
			logHog(t, point)
		}
		logAppend(t, j, id%50 == 0, &record{Kind: recDone, ID: id})
		delete(live, id)
	}
	if err := j.compact(logLive(live)); err != nil {
		t.Errorf("compact: %v", err)
	}
	logHog(t, point)
	for id := range uint64(50) {
		logAppend(t, j, true, &record{Kind: recDone, ID: last - 100 + id})
		delete(live, last-100+id)
	}
	release()
	logFill(t, j, 1e6)
	logClose(t, j)
	_, all := logOpen(t, dir, opts)
	got := logState(all)
	for id, r := range live {
		if !reflect.DeepEqual(got[id], r) {
			t.Errorf("change %d is lost", id)
		}
		delete(got, id)
	}
	for id := range last {
		if got[id] != nil {
			t.Errorf("change %d is back", id)
		}
	}
}

// TestLogFullFromTheStart opens a journal where there is no space at all.
func TestLogFullFromTheStart(t *testing.T) {
	point := logTmpfs(t, 1<<20)
	dir := filepath.Join(point, "j")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	release := logHog(t, point)
	j, _ := logOpen(t, dir, logSmall)
	for _, r := range []*record{recPut(1), {Kind: recDone, ID: 1}} {
		if err := j.append([]*record{r}, true); !errors.Is(err, remote.NoSpace) {
			t.Errorf("append: %v", err)
		}
	}
	if err := j.compact(logLive(nil)); !errors.Is(err, remote.NoSpace) {
		t.Errorf("compact: %v", err)
	}
	release()
	logAppend(t, j, true, recPut(2))
	logClose(t, j)
	_, all := logOpen(t, dir, logSmall)
	if got := logIDs(all); !slices.Equal(got, []uint64{2}) {
		t.Errorf("found %v", got)
	}
}

// TestLogExtend takes space on a file system that cannot allocate.
func TestLogExtend(t *testing.T) {
	point := logTmpfs(t, 1<<20)
	file, err := logDir(point).create("f")
	if err != nil {
		t.Fatal(err)
	}
	f := file.(logOSFile)
	defer f.Close()
	if _, err := f.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1000, 500 << 10, 10} {
		if err := f.extend(size); err != nil {
			t.Errorf("to %d bytes: %v", size, err)
		}
	}
	p, err := os.ReadFile(filepath.Join(point, "f"))
	if err != nil || len(p) != 500<<10 || string(p[:6]) != "text\x00\x00" {
		t.Errorf("it has %d bytes, %q (%v)", len(p), p[:min(6, len(p))], err)
	}
	if err := f.extend(2 << 20); !logNoSpace(err) {
		t.Errorf("more than there is: %v", err)
	}
}
