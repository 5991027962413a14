package mount

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
)

// fakeKernel notes what it is told. If gate is set, it takes notifications only when
// something comes out of it.
type fakeKernel struct {
	gate chan struct{}

	mu   sync.Mutex
	told []string
}

func (k *fakeKernel) tell(s string) fuse.Status {
	if k.gate != nil {
		<-k.gate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = append(k.told, s)
	return fuse.OK
}

func (k *fakeKernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	return k.tell(fmt.Sprintf("inode %d %d %d", node, off, length))
}

func (k *fakeKernel) EntryNotify(parent uint64, name string) fuse.Status {
	return k.tell(fmt.Sprintf("entry %d %s", parent, name))
}

func (k *fakeKernel) heard() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.told)
}

// untilHeard waits until k was told n things.
func untilHeard(t *testing.T, k *fakeKernel, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); len(k.heard()) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("heard %v, want %d things", k.heard(), n)
		}
	}
	return k.heard()
}

func TestNotifier(t *testing.T) {
	tr := newTree(fs.RootIno)
	d := tr.enter(tr.root, "d", dir(10))
	f := tr.enter(d, "f", file(11))
	k := &fakeKernel{}
	n := newNotifier(tr)
	n.note(fs.Invalidation{Ino: 11, Content: true}) // before the kernel is there
	n.start(k)
	defer n.stop()
	n.note(fs.Invalidation{Path: "/d/f", Ino: 11, Content: true, Entry: true})
	n.note(fs.Invalidation{Path: "/d/g", Entry: true})
	n.note(fs.Invalidation{Path: "/unknown/g", Ino: 99, Content: true, Entry: true})
	n.note(fs.Invalidation{Path: "/", Ino: 10, Content: true, Entry: true})
	got := untilHeard(t, k, 5)
	want := []string{
		fmt.Sprintf("inode %d 0 0", f.id), fmt.Sprintf("inode %d 0 0", f.id), fmt.Sprintf("entry %d f", d.id),
		fmt.Sprintf("entry %d g", d.id), fmt.Sprintf("inode %d 0 0", d.id),
	}
	slices.Sort(got) // they overtake each other
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// stuckKernel does not take notes about one inode for as long as stuck is open.
type stuckKernel struct {
	fakeKernel
	id    uint64
	stuck chan struct{}
}

func (k *stuckKernel) InodeNotify(node uint64, off, length int64) fuse.Status {
	if node == k.id {
		<-k.stuck
	}
	return k.fakeKernel.InodeNotify(node, off, length)
}

// Notes about one thing do not hold up those about others, however often they are
// left; the last one is passed on when the one before it was taken.
func TestNotifierStuck(t *testing.T) {
	tr := newTree(fs.RootIno)
	f := tr.enter(tr.root, "f", file(11))
	g := tr.enter(tr.root, "g", file(12))
	k := &stuckKernel{id: f.id, stuck: make(chan struct{})}
	n := newNotifier(tr)
	n.start(k)
	for i := range 20 * passers {
		n.note(fs.Invalidation{Ino: 11, Content: true})
		n.note(fs.Invalidation{Ino: 12, Content: true})
		untilHeard(t, &k.fakeKernel, i+1)
	}
	if want := fmt.Sprintf("inode %d 0 0", g.id); slices.ContainsFunc(k.heard(), func(s string) bool { return s != want }) {
		t.Errorf("told %q, want %q only", k.heard(), want)
	}
	close(k.stuck)
	untilHeard(t, &k.fakeKernel, 20*passers+2)
	n.stop()
	if got := len(k.heard()); got != 20*passers+2 {
		t.Errorf("%d notes were passed on, want the first and the last about the stuck one", got-20*passers)
	}
}

// While the kernel does not take a notification, notes can be left, each once.
func TestNotifierBlocked(t *testing.T) {
	tr := newTree(fs.RootIno)
	tr.enter(tr.root, "f", file(11))
	k := &fakeKernel{gate: make(chan struct{})}
	n := newNotifier(tr)
	n.start(k)
	for range 100 {
		n.note(fs.Invalidation{Path: "/a", Entry: true})
		n.note(fs.Invalidation{Path: "/b", Entry: true})
	}
	close(k.gate)
	untilHeard(t, k, 2)
	n.stop()
	if got := len(k.heard()); got > 4 { // both may have been on their way already
		t.Errorf("%d notifications of two things", got)
	}
	n.note(fs.Invalidation{Path: "/c", Entry: true})
	if len(n.notes) != 0 {
		t.Error("a note was taken after the end")
	}
}
