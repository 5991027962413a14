package pending

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// store is a list of changes. It notes what it is asked for.
type store struct {
	mu    sync.Mutex
	now   writeback.Status
	calls []string
	fail  map[string]error // by call
	slow  time.Duration    // of Status
}

func (s *store) note(call string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	return s.fail[call]
}

func (s *store) Status() writeback.Status {
	time.Sleep(s.slow)
	_ = s.note("status")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *store) Flush(_ context.Context, branch, path string) error {
	return s.note("flush " + branch + " " + path)
}

func (s *store) Retry(id uint64) error {
	err := s.note(fmt.Sprint("retry ", id))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.now.Branches {
		s.now.Branches[i].Parked = 0
	}
	return err
}

func (s *store) Drop(id uint64) error { return s.note(fmt.Sprint("drop ", id)) }

func (s *store) Export(id uint64, dir string) (string, error) {
	call := fmt.Sprint("export ", id)
	return fmt.Sprintf("%s/%d", dir, id), s.note(call)
}

func (s *store) Pause()  { _ = s.note("pause") }
func (s *store) Resume() { _ = s.note("resume") }

// asked returns what was asked for, in the order of the alphabet.
func (s *store) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(func(yield func(string) bool) {
		for _, call := range s.calls {
			if call != "status" && !yield(call) {
				return
			}
		}
	})
}

func journalOf(s *store) *Journal {
	return &Journal{Store: s, Names: map[string]string{"davs://h/old as me": "/old"}, Frame: func() control.Status { return control.Status{Mountpoint: "/mnt"} }}
}

var since = time.Unix(1e9, 0).UTC()

func someChanges() *store {
	return &store{now: writeback.Status{
		Staged: 7, Limit: 70, Damage: "bits",
		Items: []writeback.Item{
			{ID: 1, Branch: "/a", Path: "/p", Op: "put", State: writeback.Pending, Size: 10, Since: since, Staged: "/c/1"},
			{ID: 2, Branch: "/", Path: "/q", To: "/r", Op: "rename", State: writeback.Blocked},
			{ID: 3, Branch: "/a", Path: "/s", To: "../away", Op: "symlink", State: writeback.Waiting, Tries: 2, NextTry: since, Cause: "busy", Kind: remote.Locked},
			{ID: 4, Branch: "davs://h/old as me", Path: "/x", Op: "put", State: writeback.Parked, Staged: "/c/4", Cause: "no", Kind: remote.Permission},
			{ID: 5, Branch: "davs://h/lost as me", Path: "/y", Op: "mkdir", State: writeback.Parked},
			{ID: 6, Branch: "/a", Path: "/u", Op: "put", State: writeback.Uploading, Size: 20, Sent: 5},
		},
		Branches: []writeback.BranchStatus{
			{Name: "/a", Tree: "davs://h/a as me", Mounted: true, Pending: 3, Uploading: 1, Bytes: 30, Sent: 5, Rate: 2.5, Held: "full",
				Conflicts: []writeback.Conflict{{Path: "/p", Copy: "/p.conflict-h-t", Time: since}, {Path: "/z", Time: since}}},
			{Name: "/", Tree: "davs://h/root as me", Mounted: true, Pending: 1},
			{Name: "davs://h/old as me", Tree: "davs://h/old as me", Parked: 1},
			{Name: "davs://h/lost as me", Tree: "davs://h/lost as me", Parked: 1},
		},
	}}
}

func TestStatusIsTold(t *testing.T) {
	s, err := journalOf(someChanges()).Status(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	wantProgress := control.Progress{Pending: 4, Uploading: 1, Parked: 2, Bytes: 30, Sent: 5, Rate: 2.5, Held: []string{"/a: full"}}
	if s.Mountpoint != "/mnt" || s.Staged != 7 || s.Limit != 70 || s.Damage != "bits" || !reflect.DeepEqual(s.Progress, wantProgress) || s.LeftOut != 0 {
		t.Errorf("%+v", s)
	}
	var paths []string
	for _, i := range s.Items {
		paths = append(paths, fmt.Sprintf("%d %s %s %s", i.ID, i.State, i.Path, i.To))
	}
	want := []string{"4 parked /old/x ", "5 parked (davs://h/lost as me)/y ", "6 uploading /a/u ", "3 waiting /a/s ../away", "2 blocked /q /r", "1 pending /a/p "}
	if !slices.Equal(paths, want) {
		t.Errorf("%q", paths)
	}
	if i := s.Items[3]; i.Kind != remote.Locked.String() || i.Cause != "busy" || i.Tries != 2 || !i.NextTry.Equal(since) {
		t.Errorf("%+v", i)
	}
	if i := s.Items[5]; i.Kind != "" || i.File != "/c/1" || i.Size != 10 || !i.Since.Equal(since) {
		t.Errorf("%+v", i)
	}
	var names []string
	for _, b := range s.Branches {
		names = append(names, fmt.Sprint(b.Name, " ", b.Mounted, " ", b.ConflictCount))
	}
	if want := []string{"/a true 2", "/ true 0", "/old false 0", "(davs://h/lost as me) false 0"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if c := s.Branches[0].Conflicts; c[0].Path != "/a/p" || c[0].Copy != "/a/p.conflict-h-t" || c[1].Copy != "" {
		t.Errorf("%+v", c)
	}
}

func TestStatusHasBounds(t *testing.T) {
	on := someChanges()
	for range 3 * mostConflicts {
		on.now.Branches[0].Conflicts = append(on.now.Branches[0].Conflicts, writeback.Conflict{Path: "/new"})
	}
	s, err := journalOf(on).Status(t.Context(), 3)
	if err != nil || len(s.Items) != 3 || s.LeftOut != 3 || s.Items[2].State != control.ItemUploading {
		t.Errorf("%+v, %v", s.Items, err)
	}
	if b := s.Branches[0]; len(b.Conflicts) != mostConflicts || b.ConflictCount != 3*mostConflicts+2 || b.Conflicts[0].Path != "/a/new" {
		t.Errorf("%d %d", len(b.Conflicts), b.ConflictCount)
	}
	if s, err := journalOf(on).Status(t.Context(), 0); err != nil || s.Items == nil || len(s.Items) != 0 || s.LeftOut != 6 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestPausedIsProgressThatIsHeld(t *testing.T) {
	on := someChanges()
	on.now.Paused = true
	p, err := journalOf(on).Progress(t.Context())
	if err != nil || !slices.Equal(p.Held, []string{"/a: full", "uploads are paused"}) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestProgressIsNotAskedForAllTheTime when the answer takes long.
func TestProgressIsNotAskedForAllTheTime(t *testing.T) {
	on := someChanges()
	on.slow = 300 * time.Millisecond // so that the next six seconds have the same answer
	j := journalOf(on)
	for range 100 {
		if p, err := j.Progress(t.Context()); err != nil || p.Pending != 4 {
			t.Errorf("%+v, %v", p, err)
		}
	}
	on.mu.Lock()
	defer on.mu.Unlock()
	if n := len(on.calls); n > 10 {
		t.Errorf("asked %d times", n)
	}
}

// TestStatesAreTheStores makes sure that both packages speak of the same.
func TestStatesAreTheStores(t *testing.T) {
	for ours, theirs := range map[string]string{
		control.ItemPending: writeback.Pending, control.ItemUploading: writeback.Uploading, control.ItemWaiting: writeback.Waiting,
		control.ItemParked: writeback.Parked, control.ItemBlocked: writeback.Blocked,
	} {
		if ours != theirs || !slices.Contains(urgency, ours) {
			t.Errorf("%q, %q", ours, theirs)
		}
	}
}

func TestAllItemsInOrder(t *testing.T) {
	j := journalOf(someChanges())
	var ids []uint64
	if err := j.Items(t.Context(), func(i control.Item) error { ids = append(ids, i.ID); return nil }); err != nil || !slices.Equal(ids, []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("%v, %v", ids, err)
	}
	enough := errors.New("enough")
	if err := j.Items(t.Context(), func(control.Item) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Items(ctx, func(control.Item) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFlushOfTrees(t *testing.T) {
	branches := []writeback.BranchStatus{{Name: "/a", Mounted: true}, {Name: "/a/b", Mounted: true}, {Name: "/c/d", Mounted: true}, {Name: "davs://h/x"}}
	rooted := append(slices.Clone(branches), writeback.BranchStatus{Name: "/", Mounted: true})
	for _, c := range []struct {
		branches []writeback.BranchStatus
		path     string
		want     []string
	}{
		{branches, "/", []string{"flush /a /", "flush /a/b /", "flush /c/d /"}},
		{branches, "/a", []string{"flush /a /", "flush /a/b /"}},
		{branches, "/a/x/y", []string{"flush /a /x/y"}},
		{branches, "/a/b/x", []string{"flush /a/b /x"}},
		{branches, "/c", []string{"flush /c/d /"}},
		{branches, "/ab", nil},
		{rooted, "/", []string{"flush / /", "flush /a /", "flush /a/b /", "flush /c/d /"}},
		{rooted, "/c", []string{"flush / /c", "flush /c/d /"}},
		{rooted, "/c/d", []string{"flush /c/d /"}},
		{rooted, "/ab", []string{"flush / /ab"}},
	} {
		on := &store{now: writeback.Status{Branches: c.branches}}
		left, err := journalOf(on).Flush(t.Context(), c.path)
		if got := on.asked(); err != nil || len(left.Items) != 0 || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.path, got, err, c.want)
		}
	}
}

func TestFlushNamesWhatIsStuck(t *testing.T) {
	on := someChanges()
	on.now.Items = append(on.now.Items, writeback.Item{ID: 9, Branch: "/a", Path: "/d/e", Op: "put", State: writeback.Parked},
		writeback.Item{ID: 10, Branch: "/a", Path: "/elsewhere", To: "/d/f", Op: "rename", State: writeback.Blocked})
	on.fail = map[string]error{"flush /a /d": &remote.Error{Op: "flush", Kind: remote.NoSpace, Err: errors.New("full")}}
	left, err := journalOf(on).Flush(t.Context(), "/a/d")
	if remote.KindOf(err) != remote.NoSpace || len(left.Items) != 2 || left.Items[0].ID != 9 || left.Items[1].To != "/a/d/f" || left.LeftOut != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	for i := range 2 * control.MaxLeft {
		on.now.Items = append(on.now.Items, writeback.Item{ID: uint64(100 + i), Branch: "/a", Path: "/d/more", State: writeback.Parked})
	}
	if left, err := journalOf(on).Flush(t.Context(), "/a/d"); err == nil || len(left.Items) != control.MaxLeft || left.LeftOut != control.MaxLeft+2 {
		t.Errorf("%d %d, %v", len(left.Items), left.LeftOut, err)
	}
	// What was stuck is gone in the meantime.
	on.now.Items = nil
	if left, err := journalOf(on).Flush(t.Context(), "/a/d"); err == nil || !strings.Contains(err.Error(), "full") || len(left.Items) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := journalOf(on).Flush(ctx, "/a/d"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestActions(t *testing.T) {
	on := someChanges()
	j := journalOf(on)
	n, err := j.RetryAll(t.Context())
	if err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if err := errors.Join(j.Retry(t.Context(), 4), j.Drop(t.Context(), 5), j.Pause(t.Context(), true), j.Pause(t.Context(), false)); err != nil {
		t.Error(err)
	}
	if got, want := on.asked(), []string{"drop 5", "pause", "resume", "retry 0", "retry 4"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestExportGoesOn(t *testing.T) {
	on := someChanges()
	on.fail = map[string]error{
		"export 1": &remote.Error{Op: "export", Path: "/out/1", Kind: remote.Exist},
		"export 6": &remote.Error{Op: "read", Kind: remote.Unavailable, Err: errors.New("away")},
	}
	j := journalOf(on)
	var got []control.Exported
	note := func(e control.Exported) error { got = append(got, e); return nil }
	if err := j.Export(t.Context(), "/out", []uint64{1, 77, 6, 3}, note); err != nil {
		t.Error(err)
	}
	want := []control.Exported{{ID: 1, Path: "/a/p", Error: "/out/1 exists already"}, {ID: 77, Error: "there is no such change"},
		{ID: 6, Path: "/a/u", Error: "away"}, {ID: 3, Path: "/a/s", File: "/out/3"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	// All that is parked and has content.
	got = nil
	if err := j.Export(t.Context(), "/out", nil, note); err != nil || len(got) != 1 || got[0].Path != "/old/x" {
		t.Errorf("%+v, %v", got, err)
	}
	enough := errors.New("enough")
	if err := j.Export(t.Context(), "/out", []uint64{3, 4}, func(control.Exported) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}
