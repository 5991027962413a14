package irods

import (
	"sync"
	"time"
)

// A lane is a connection that carries pieces of a large object. Several lanes are
// faster than one only while the window of a connection, not the server, the disk or
// the other end, is the limit: measured on 5.0.2 over loopback, four fresh connections
// were slower than one; over a round trip of 50 ms with a window of 4 MiB each further
// one adds its share. So a transfer begins with one lane, or with what was good lately,
// and adds one more as long as the last one has helped.
//
// What a window of time tells is not the truth: other work on either machine is in it, and
// a lane that was judged of no use is not tried again for long. Where several lanes are
// certain to be better (least), only idleness takes them away, and only while it lasts.

const (
	gain       = 1.15                  // by which factor a further lane must be faster
	worth      = 3                     // the rest must take so many times what a lane costs
	window     = 50 * time.Millisecond // the shortest time in which speed is measured
	windowEach = 2                     // and the fewest pieces for each lane
	lessonLife = 2 * time.Minute       // how long is believed what was measured
	holdTime   = 2 * time.Second       // for which a lane that was given up is not replaced
	lull       = boredom               // for which lanes that had nothing to do are not called back
)

// growth decides how many lanes a transfer uses. It has no clock: the time is told to
// it. It is for one goroutine at a time.
type growth struct {
	most  int // lanes there may be
	least int // lanes that are better than fewer without a proof, 0 or 1 if that is not known
	lanes int // that are at work
	want  int // that there should be, at least 1
	known lesson

	before float64   // bytes/s with one lane less than wanted, 0 if that was not measured
	stop   time.Time // no more lanes are tried before
	rest   time.Time // nor called back
	warm   int       // pieces that pass before the next window begins
	since  time.Time // begin of the window
	bytes  int64
	pieces int
	waited time.Duration // of all lanes for the other end
}

// lesson is what a transfer has learned for the next ones.
type lesson struct {
	lanes int       // that were good
	rate  float64   // bytes/s with them
	stop  time.Time // one more was of no use, and is not tried before
	until time.Time // for how long all this is believed
}

// newGrowth begins a transfer of size bytes, with no lane at work yet. price is what
// another lane costs before it moves anything.
func newGrowth(most int, known lesson, size int64, price time.Duration, now time.Time) growth {
	g := growth{most: max(most, 1), want: 1}
	if !now.Before(known.until) {
		return g
	}
	g.known, g.stop = known, known.stop
	if pays(size, known.rate, price) {
		g.want = min(known.lanes, g.most)
	}
	return g
}

// pays tells whether a transfer of left bytes takes so long that another lane pays.
func pays(left int64, rate float64, price time.Duration) bool {
	return float64(left) >= worth*price.Seconds()*rate
}

// joined notes that a lane has begun to work.
func (g *growth) joined() {
	g.lanes++
	g.warm = g.lanes
}

// gone notes that a lane has ended. If that was not because there were too many, it is
// not replaced for a while.
func (g *growth) gone(now time.Time) {
	g.lanes--
	g.warm = max(g.lanes, 1)
	if g.want > g.lanes {
		g.refused(now)
	}
}

// bored notes that a lane has ended because it had nothing to do.
func (g *growth) bored(now time.Time) {
	if g.lanes > g.least || g.want < g.lanes {
		g.gone(now)
		return
	}
	g.lanes--
	g.warm = max(g.lanes, 1)
	g.want, g.before, g.rest = max(g.lanes, 1), 0, now.Add(lull)
}

// expect has a transfer begin with so many lanes, and keep them as long as they are busy.
func (g *growth) expect(lanes int) {
	g.least = min(lanes, g.most)
	g.want = max(g.want, g.least)
}

// refused notes that no lane can be had for now beyond those at work.
func (g *growth) refused(now time.Time) {
	g.want, g.before, g.rest = max(g.lanes, 1), 0, now.Add(holdTime)
	g.hold(g.rest)
}

// hold allows no more lanes before t.
func (g *growth) hold(t time.Time) {
	if t.After(g.stop) {
		g.stop = t
	}
}

// did notes that a lane has moved a piece of n bytes after it had waited for the other
// end. left is how much no lane has taken yet. It may change what is wanted.
func (g *growth) did(now time.Time, n, left int64, waited, price time.Duration) {
	if g.want < g.least && left >= int64(g.least)*n && !now.Before(g.rest) { // there is enough to do again
		g.want, g.before = g.least, 0
	}
	if g.warm > 0 {
		if g.warm--; g.warm == 0 {
			g.restart(now)
		}
		return
	}
	g.bytes += n
	g.pieces++
	g.waited += waited
	took := now.Sub(g.since)
	if took < window || g.pieces < windowEach*g.lanes {
		return
	}
	if g.lanes == g.want {
		g.judge(now, took, left, price)
	}
	g.restart(now)
}

func (g *growth) restart(now time.Time) {
	g.since, g.bytes, g.pieces, g.waited = now, 0, 0, 0
}

// judge draws the conclusion from a window that took some time.
func (g *growth) judge(now time.Time, took time.Duration, left int64, price time.Duration) {
	rate := float64(g.bytes) / took.Seconds()
	idle := 4*g.waited > time.Duration(g.lanes)*took // the other end is the limit
	switch {
	case g.before > 0 && rate < gain*g.before && g.want > g.least:
		g.want--
		if idle {
			g.hold(now.Add(holdTime))
			break
		}
		g.hold(now.Add(lessonLife))
		g.known = lesson{lanes: g.want, rate: g.before, stop: g.stop, until: now.Add(lessonLife)}
	case g.lanes > 1 && g.want > g.least && g.waited >= took: // as if one had done nothing
		g.want--
		g.hold(now.Add(holdTime))
	case !idle:
		g.learn(now, rate)
		if g.lanes < g.most && !now.Before(g.stop) && pays(left, rate, price) {
			g.want++
			g.before = rate
			return
		}
	}
	g.before = 0
}

// learn remembers the speed with the present lanes, unless more are known to be good and
// cannot be had just now.
func (g *growth) learn(now time.Time, rate float64) {
	if g.lanes < g.known.lanes && now.Before(g.known.until) {
		return
	}
	g.known.lanes, g.known.rate = g.lanes, rate
	if g.before > 0 || g.lanes == 1 { // proved, not only taken over
		g.known.until = now.Add(lessonLife)
	}
}

// lessons are what the transfers of a branch have learned, for each direction. They are
// safe for concurrent use.
type lessons struct {
	mu          sync.Mutex
	read, write lesson
}

// direction is one of the two lessons.
type direction func(*lessons) *lesson

func reads(l *lessons) *lesson  { return &l.read }
func writes(l *lessons) *lesson { return &l.write }

func (l *lessons) get(d direction) lesson {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *d(l)
}

// put keeps x unless something newer is known.
func (l *lessons) put(d direction, x lesson) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := d(l); !x.until.Before(old.until) {
		*old = x
	}
}
