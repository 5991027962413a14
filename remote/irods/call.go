package irods

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// do runs f on a connection of its own.
func (b *Backend) do(ctx context.Context, op, rel string, change bool, f func(*session) error) error {
	return b.doWith(ctx, op, rel, change, "", f)
}

// doWith is do on a connection that preferably has the object open for reading.
func (b *Backend) doWith(ctx context.Context, op, rel string, change bool, object string, f func(*session) error) error {
	if err := remote.ContextErr(ctx); err != nil {
		return err
	}
	s, err := b.pool.get(ctx, object)
	if err != nil {
		return fail(ctx, op, rel, false, err)
	}
	defer b.pool.put(s)
	err = fail(ctx, op, rel, change, f(s))
	if errors.Is(err, wire.ErrClosed) && b.pool.ended() {
		return &remote.Error{Op: op, Path: rel, Kind: remote.BadHandle, Err: errClosed, Unsure: unsure(err)}
	}
	return err
}

// unsure tells whether something may have been altered.
func unsure(err error) bool {
	var e *remote.Error
	return errors.As(err, &e) && e.Unsure
}

// pace knows the round trip to the server: the shortest time that a small call has
// taken lately, the server's work on it included.
type pace struct {
	mu   sync.Mutex
	best time.Duration
	at   time.Time
}

// paceLife is how long a measured round trip is believed.
const paceLife = 5 * time.Minute

// saw takes the time of a small call.
func (p *pace) saw(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.best == 0 || d < p.best || time.Since(p.at) > paceLife {
		p.best, p.at = d, time.Now()
	}
}

func (p *pace) roundTrip() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.best
}

// oneCallWrite is the round trip from which on one call is faster than three that depend on
// each other. Measured on iRODS 5.0.2, an object that goes in one call costs the server
// 10 ms more than one that is made, written and closed; two round trips are saved.
const oneCallWrite = 5 * time.Millisecond

// far tells whether one call is faster than three that save the server the given time.
func (p *pace) far(limit time.Duration) bool { return p.roundTrip() > limit }
