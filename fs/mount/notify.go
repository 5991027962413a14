package mount

import (
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// kernel takes notifications; *fuse.Server does.
type kernel interface {
	InodeNotify(node uint64, off, length int64) fuse.Status
	EntryNotify(parent uint64, name string) fuse.Status
}

// passers is how many notes are on their way to the kernel at a time. The kernel takes
// one when the requests for the same object are answered, which may last as long as a
// server is silent; notes about others are not to wait for that.
const passers = 4

// notifier tells the kernel what to forget. The kernel may need the lock of an inode
// for that, which it also holds while it waits for an answer of ours: so whoever
// finds out that something must be forgotten only leaves a note, and goroutines that
// answer no requests pass the notes on.
type notifier struct {
	tree *tree
	done sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond                    // on mu
	notes   []fs.Invalidation            // guarded by mu; oldest first
	noted   map[fs.Invalidation]struct{} // guarded by mu; what is in notes
	passing map[fs.Invalidation]struct{} // guarded by mu; what the kernel is being told
	stopped bool                         // guarded by mu
	kernel  kernel                       // guarded by mu; nil before start
}

func newNotifier(t *tree) *notifier {
	n := &notifier{tree: t, noted: map[fs.Invalidation]struct{}{}, passing: map[fs.Invalidation]struct{}{}}
	n.changed.L = &n.mu
	return n
}

// note leaves a note. It never blocks and calls nothing.
func (n *notifier) note(i fs.Invalidation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, twice := n.noted[i]; twice || n.stopped {
		return
	}
	n.noted[i] = struct{}{}
	n.notes = append(n.notes, i)
	n.changed.Signal()
}

// start begins to pass notes on to k.
func (n *notifier) start(k kernel) {
	n.mu.Lock()
	n.kernel = k
	n.mu.Unlock()
	for range passers {
		n.done.Go(func() {
			for i, ok := n.next(); ok; i, ok = n.next() {
				n.pass(k, i)
				n.passed(i)
			}
		})
	}
}

// stop ends the goroutines and waits for them. The kernel must have let go of the
// mount, so that no notification can be waiting for a lock.
func (n *notifier) stop() {
	n.mu.Lock()
	n.stopped, n.notes = true, nil
	n.changed.Broadcast()
	n.mu.Unlock()
	n.done.Wait()
}

// next waits for a note to pass on. One that is being passed on may be left again, for
// a change since then; it is passed on again when the kernel has taken the first.
func (n *notifier) next() (fs.Invalidation, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.stopped {
			return fs.Invalidation{}, false
		}
		k := slices.IndexFunc(n.notes, func(i fs.Invalidation) bool {
			_, busy := n.passing[i]
			return !busy
		})
		if k >= 0 {
			i := n.notes[k]
			copy(n.notes[1:k+1], n.notes[:k]) // k is less than passers
			n.notes = n.notes[1:]
			delete(n.noted, i)
			n.passing[i] = struct{}{}
			return i, true
		}
		n.changed.Wait()
	}
}

// passed records that the kernel has taken a note. Who calls it asks for the next one
// then, which may be the same again.
func (n *notifier) passed(i fs.Invalidation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.passing, i)
}

// pass tells the kernel. A refusal means that it knows nothing of the object, or is
// gone.
func (n *notifier) pass(k kernel, i fs.Invalidation) {
	if i.Content {
		for _, id := range n.tree.known(i.Ino) {
			k.InodeNotify(id, 0, 0)
		}
	}
	if i.Entry && i.Path != "/" {
		dir, name := remote.Split(i.Path)
		if id, ok := n.tree.find(dir); ok {
			k.EntryNotify(id, name)
		}
	}
}

// attributesNow makes the kernel ask for the attributes of a node at their next use.
// It needs no lock of the kernel, and so may be called while a request is answered.
func (n *notifier) attributesNow(id uint64) {
	n.mu.Lock()
	k := n.kernel
	n.mu.Unlock()
	if k != nil {
		k.InodeNotify(id, -1, 0)
	}
}
