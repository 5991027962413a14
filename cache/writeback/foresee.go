package writeback

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// foresight has the server look at directories that were removed here while the program that
// removes them is still at work above them: when the topmost goes, with all in it, only those
// have to be looked at that were not, or too long ago. It takes only room that nobody else has
// taken. Guarded by store.mu, but for to.
type foresight struct {
	to    remote.Foreseer // nil if the server's way of removing trees has no use for it
	queue []string
	under int // looks under way
}

// maxForeseen bounds the directories that wait to be looked at: those beyond can wait for the
// removal.
const maxForeseen = 10_000

// foresee has a directory looked at whose removal was just made. Guarded by store.mu.
func (b *Branch) foresee(dir string) {
	f := &b.foresight
	if f.to == nil || !f.to.Foresees() || !b.mayForesee(dir) || len(f.queue) == maxForeseen {
		return
	}
	f.queue = append(f.queue, dir)
	b.lookAhead()
}

// mayForesee tells whether a directory is still to go together with others, or with what was
// in it. Guarded by store.mu.
func (b *Branch) mayForesee(dir string) bool {
	line := b.queue.lines[dir]
	return len(line) == 1 && line[0].state == idle && line[0].typ == remote.Dir && b.prunable(line[0])
}

// lookAhead begins what looks there is room for. Guarded by store.mu.
func (b *Branch) lookAhead() {
	s, f := b.store, &b.foresight
	if s.paused || s.closed || !s.started || b.pace.why != nil {
		f.queue = nil
	}
	for len(f.queue) > 0 && f.under < b.policy.Calls-b.light {
		dir := f.queue[0]
		if f.queue = f.queue[1:]; !b.mayForesee(dir) {
			continue // it goes already
		}
		f.under++
		s.working.Go(func() {
			ctx, cancel := context.WithCancel(remote.WithoutRetry(s.life))
			defer cancel()
			err := f.to.Foresee(ctx, dir)
			s.mu.Lock()
			defer s.mu.Unlock()
			f.under--
			if err != nil { // not a good time
				s.log.Debug("a directory that was removed could not be looked at ahead", "branch", b.policy.Name, "path", dir, "err", err)
				f.queue = nil
			}
			b.lookAhead()
		})
	}
}
