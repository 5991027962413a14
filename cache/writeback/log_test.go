package writeback

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

// logOpen opens a journal and returns what is in it.
func logOpen(t testing.TB, dir string, opts logOptions) (*journal, []*record) {
	t.Helper()
	if opts.BootID == "" {
		opts.BootID = "boot-1"
	}
	j, err := openLog(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	return j, logReplayAll(t, j)
}

func logReplayAll(t testing.TB, j *journal) (all []*record) {
	t.Helper()
	err := j.replay(func(r *record, _ bool) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func logClose(t testing.TB, j *journal) {
	t.Helper()
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
}

// logAbandon leaves a journal as a process does that is killed.
func logAbandon(t testing.TB, j *journal) {
	t.Helper()
	j.ready = false
	logClose(t, j)
}

func logAppend(t testing.TB, j *journal, sync bool, group ...*record) {
	t.Helper()
	if err := j.append(group, sync); err != nil {
		t.Fatal(err)
	}
}

// logFiles returns the names in dir, without those that are only space.
func logFiles(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != logSpare && e.Name() != logNew {
			names = append(names, e.Name())
		}
	}
	return names
}

// logIDs returns the numbers of records.
func logIDs(all []*record) (ids []uint64) {
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// TestLogReopen appends over several sessions, and each finds all of those before.
func TestLogReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	var want []*record
	for session := range 5 {
		j, all := logOpen(t, dir, logOptions{})
		if !reflect.DeepEqual(all, want) {
			t.Fatalf("session %d: found %d records, want %d", session, len(all), len(want))
		}
		for n := range 20 {
			group := []*record{recPut(100*session + n), {Kind: recDone, ID: uint64(n)}, recSample()}
			logAppend(t, j, n%7 == 0, group...)
			want = append(want, group...)
		}
		logClose(t, j)
		if err := j.append([]*record{recPut(1)}, false); !errors.Is(err, remote.BadHandle) {
			t.Errorf("append to a closed journal: %v", err)
		}
	}
	if names := logFiles(t, dir); !slices.Equal(names, []string{"journal-00000001"}) {
		t.Errorf("files: %v", names)
	}
}

// TestLogSegments fills many segments, also with a group that is larger than one.
func TestLogSegments(t *testing.T) {
	dir := t.TempDir()
	j, _ := logOpen(t, dir, logOptions{SegmentSize: 4096, Reserve: 1024})
	var want []uint64
	for n := range 200 {
		logAppend(t, j, n%50 == 0, recPut(n))
		want = append(want, uint64(n))
	}
	big := recPut(777)
	big.Target = strings.Repeat("x", 50000)
	logAppend(t, j, true, big)
	logClose(t, j)
	j, all := logOpen(t, dir, logOptions{SegmentSize: 4096, Reserve: 1024})
	if got := logIDs(all); !slices.Equal(got, append(want, 777)) {
		t.Errorf("found %v", got)
	}
	if all[200].Target != big.Target {
		t.Error("the large record is another")
	}
	if names := logFiles(t, dir); len(names) < 4 {
		t.Errorf("files: %v", names)
	}
	if text := j.damage(); text != "" {
		t.Errorf("damage: %s", text)
	}
}

// TestLogBoot tells which records are of the present boot.
func TestLogBoot(t *testing.T) {
	dir := t.TempDir()
	for n, boot := range []string{"a", "a", "b"} {
		j, _ := logOpen(t, dir, logOptions{BootID: boot})
		logAppend(t, j, false, recPut(n))
		logClose(t, j)
	}
	j, err := openLog(dir, logOptions{BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	var same []bool
	err = j.replay(func(_ *record, sameBoot bool) error { same = append(same, sameBoot); return nil })
	if err != nil || !slices.Equal(same, []bool{false, false, true}) {
		t.Errorf("of this boot: %v (%v)", same, err)
	}
	if j.replay(func(*record, bool) error { return nil }) == nil {
		t.Error("it can be read twice")
	}
	logClose(t, j)
}

// TestLogEach ends replay with the error of the caller.
func TestLogEach(t *testing.T) {
	dir := t.TempDir()
	j, _ := logOpen(t, dir, logOptions{})
	logAppend(t, j, true, recPut(1), recPut(2))
	logClose(t, j)
	j, err := openLog(dir, logOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("enough")
	if err := j.replay(func(*record, bool) error { return want }); !errors.Is(err, want) {
		t.Errorf("replay: %v", err)
	}
	if err := j.append([]*record{recPut(3)}, true); !errors.Is(err, remote.BadHandle) {
		t.Errorf("append without replay: %v", err)
	}
	logClose(t, j)
}

// TestLogCompact compacts while others append: nothing is lost, and the journal is as
// small as what is live.
func TestLogCompact(t *testing.T) {
	dir := t.TempDir()
	opts := logOptions{SegmentSize: 64 << 10, Reserve: 4096}
	j, _ := logOpen(t, dir, opts)
	var mu sync.Mutex // of the owner: held over append and the note of it
	live := map[uint64]*record{}
	var wg sync.WaitGroup
	compactions := 0
	for w := range 4 {
		wg.Go(func() {
			for n := range 2000 {
				mu.Lock()
				r := recPut(w*10000 + n)
				err := j.append([]*record{r}, false)
				live[r.ID] = r
				if old := uint64(w*10000 + n - 20); n >= 20 {
					delete(live, old)
					err = errors.Join(err, j.append([]*record{{Kind: recDone, ID: old}}, false))
				}
				if j.bloated(len(live), false) {
					compactions++
					err = errors.Join(err, j.compact(logLive(live)))
				}
				mu.Unlock()
				if err == nil && n%500 == 0 {
					err = j.sync()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	logClose(t, j)
	if compactions == 0 {
		t.Error("it was never compacted")
	}
	if total := logBytes(t, dir); total > 8*opts.SegmentSize {
		t.Errorf("%d bytes for %d live changes", total, len(live))
	}
	_, all := logOpen(t, dir, opts)
	got := logState(all)
	if len(got) != len(live) {
		t.Errorf("%d changes live, want %d", len(got), len(live))
	}
	for id, r := range live {
		if !reflect.DeepEqual(got[id], r) {
			t.Errorf("change %d is %+v", id, got[id])
		}
	}
}

// logLive yields the records of a map in the order of their numbers.
func logLive(live map[uint64]*record) func(func(*record) bool) {
	return func(yield func(*record) bool) {
		ids := make([]uint64, 0, len(live))
		for id := range live {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			if !yield(live[id]) {
				return
			}
		}
	}
}

// logState is what records amount to.
func logState(all []*record) map[uint64]*record {
	state := map[uint64]*record{}
	for _, r := range all {
		switch r.Kind {
		case recOp:
			state[r.ID] = r
		case recDone:
			delete(state, r.ID)
		}
	}
	return state
}

func logBytes(t testing.TB, dir string) (total int64) {
	t.Helper()
	for _, name := range logFiles(t, dir) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	return total
}

// TestLogCompactEmpty leaves nothing but an empty snapshot.
func TestLogCompactEmpty(t *testing.T) {
	dir := t.TempDir()
	j, _ := logOpen(t, dir, logOptions{})
	logAppend(t, j, false, recPut(1))
	logAppend(t, j, false, &record{Kind: recDone, ID: 1})
	for range 3 {
		if err := j.compact(logLive(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if total := logBytes(t, dir); total > 1024 {
		t.Errorf("%d bytes are left", total)
	}
	logAppend(t, j, true, recPut(2))
	logClose(t, j)
	_, all := logOpen(t, dir, logOptions{})
	if got := logIDs(all); !slices.Equal(got, []uint64{2}) {
		t.Errorf("found %v", got)
	}
}

// TestLogNames takes only its own names for segments.
func TestLogNames(t *testing.T) {
	for _, n := range []uint32{1, 0xabcdef, 1<<32 - 1} {
		for _, snap := range []bool{false, true} {
			if got, s, ok := logNumber(logName(n, snap)); got != n || s != snap || !ok {
				t.Errorf("%s is %d %v %v", logName(n, snap), got, s, ok)
			}
		}
	}
	for _, name := range []string{"", "lock", logSpare, logNew, "journal-1", "journal-0000000G", "journal-00000001.damaged", "journal-0000000A", "00000001", fmt.Sprint(logName(1, true), "0")} {
		if _, _, ok := logNumber(name); ok {
			t.Errorf("%q is taken for a segment", name)
		}
	}
}
