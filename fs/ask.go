package fs

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// stat returns the entry at rel, from memory if that is fresh enough and force is
// not set, and how long it holds.
func (m *metaCache) stat(ctx context.Context, rel string, force bool) (remote.Entry, time.Duration, error) {
	for range 3 {
		if !force {
			k, left, ok := m.lookup(rel)
			if !ok && (m.renew(ctx, rel) || m.listFor(ctx, rel)) {
				k, left, ok = m.lookup(rel)
			}
			if ok && k.absent {
				m.foresee(ctx, rel)
				return remote.Entry{}, left, fail("stat", rel, remote.NotExist, nil)
			} else if ok {
				return k.e, left, nil
			}
		}
		e, current, err := m.ask(ctx, rel)
		if err != nil && remote.KindOf(err) == remote.NotExist {
			m.missed(rel)
		}
		if current || err != nil && remote.KindOf(err) != remote.NotExist {
			return e, m.b.AttrTTL, err
		}
	}
	// Changes keep coming; what the server says now is as good as any answer.
	e, _, err := m.ask(ctx, rel)
	m.forget(rel, remote.File)
	return e, 0, err
}

// question is one request for an entry, for all who ask while it is under way.
type question struct {
	done    chan struct{} // closed when the rest is set
	e       remote.Entry
	current bool // no change made here can have crossed the answer
	err     error
}

// ask gets the entry from the server. current is false if a change made here may
// have crossed the answer.
func (m *metaCache) ask(ctx context.Context, rel string) (e remote.Entry, current bool, err error) {
	mark := m.mark(rel)
	q := m.question(ctx, rel)
	select {
	case <-ctx.Done():
		return remote.Entry{}, false, ctx.Err()
	case <-q.done:
		// A shared answer may have been asked for before a change that we know of.
		return q.e, q.current && m.mark(rel) == mark, q.err
	}
}

// question joins the request for rel that is under way, or begins one. Who wants no
// old answer does not join: what was asked before may have been answered before.
func (m *metaCache) question(ctx context.Context, rel string) *question {
	m.firstMark(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.asked[rel]; q != nil && m.b.AttrTTL > 0 {
		return q
	}
	q := &question{done: make(chan struct{})}
	m.asked[rel] = q
	mark, at := m.markLocked(rel), m.now()
	// The answer serves all who wait: one of them giving up must not end it.
	m.detach(ctx, func(ctx context.Context) {
		e, err := m.b.Backend.Stat(ctx, rel)
		m.hear()
		m.answer(q, rel, known{e: e, absent: remote.KindOf(err) == remote.NotExist, at: at}, err, mark)
	})
	return q
}

// answer stores what the server said and wakes those who wait for it.
func (m *metaCache) answer(q *question, rel string, k known, err error, mark uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked[rel] == q {
		delete(m.asked, rel)
	}
	if q.err = err; err == nil || k.absent {
		if q.current = m.markLocked(rel) == mark; q.current {
			m.storeLocked(rel, k)
		}
		q.e = m.applyKept(k.e)
	}
	close(q.done)
}

// hear waits until it is known here what has become of all changes that are over: an answer
// that knows of them is no newer then than what is known.
func (m *metaCache) hear() {
	if m.b.Back != nil {
		m.b.Back.Told()
	}
}
