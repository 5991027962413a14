package prefetch

import "time"

// Bounds of the climber's judgement.
const (
	epochTime = 50 * time.Millisecond // least time over which a rate is measured
	epochHold = 16                    // epochs without a trial after one that gave nothing
	gain      = 1.1                   // by which the rate must grow
)

// climber finds the number of requests at once that brings the most bytes per second:
// it doubles while the rate grows, and steps back when that brought nothing. It is a
// pure struct; the times come from its caller.
type climber struct {
	n, max int

	since  time.Time // begin of the epoch
	bytes  int64     // that came in it
	pieces int
	waited bool // the reader had to wait in it

	rate float64 // before the last step, bytes per second
	from int     // n before the last step; 0 if the last epoch began without a step
	hold int
}

// newClimber returns a climber between 1 and limit.
func newClimber(limit int) climber {
	limit = max(limit, 1)
	return climber{n: min(4, limit), max: limit}
}

// wait notes that the reader had to wait. Otherwise the rate is the reader's, not the
// path's, and nothing is learned.
func (c *climber) wait() { c.waited = true }

// arrived notes that a piece has come.
func (c *climber) arrived(bytes int64, now time.Time) {
	if c.since.IsZero() {
		c.since = now
	}
	c.bytes += bytes
	c.pieces++
	elapsed := now.Sub(c.since)
	if elapsed < epochTime || c.pieces < 2*c.n {
		return
	}
	if c.waited {
		c.step(float64(c.bytes) / elapsed.Seconds())
	}
	c.since, c.bytes, c.pieces, c.waited = now, 0, 0, false
}

// step decides at the end of an epoch with the given rate.
func (c *climber) step(rate float64) {
	if c.from > 0 && rate < gain*c.rate {
		c.n, c.from, c.hold = c.from, 0, epochHold
		return
	}
	if c.hold > 0 {
		c.hold--
		return
	}
	c.from = 0
	if c.n < c.max {
		c.from, c.rate = c.n, rate
		c.n = min(2*c.n, c.max)
	}
}
