package writeback

import (
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// Settled tells what has become of a pending change.
type Settled struct {
	Path string
	// Was is the version that the branch showed for it: a local one, or of a change of
	// attributes alone the server's before.
	Was   string
	Entry remote.Entry // what the server has now; zero Type: nothing
	Attrs remote.Attrs // wanted, and not kept by the server
	Loose bool         // the time in Attrs is only that of writing
	// Copy is not zero after a conflict: our content is there, and Entry is theirs.
	Copy remote.Entry
}

// teller calls functions in order, in a goroutine of its own.
type teller struct {
	mu    sync.Mutex
	list  []func()      // guarded by mu
	more  chan struct{} // has room for one
	quit  chan struct{}
	works sync.WaitGroup
}

func (t *teller) start() {
	t.more, t.quit = make(chan struct{}, 1), make(chan struct{})
	t.works.Go(t.run)
}

func (t *teller) tell(f func()) {
	t.mu.Lock()
	t.list = append(t.list, f)
	t.mu.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

func (t *teller) run() {
	for {
		t.mu.Lock()
		list := t.list
		t.list = nil
		t.mu.Unlock()
		for _, f := range list {
			f()
		}
		if len(list) > 0 {
			continue
		}
		select {
		case <-t.more:
		case <-t.quit:
			return
		}
	}
}

// told waits until all has been passed on that was told before.
func (t *teller) told() {
	done := make(chan struct{})
	t.tell(func() { close(done) })
	select {
	case <-done:
	case <-t.quit:
	}
}

// close ends it; what was told before is still passed on.
func (t *teller) close() {
	done := make(chan struct{})
	t.tell(func() { close(done) })
	<-done
	close(t.quit)
	t.works.Wait()
}
