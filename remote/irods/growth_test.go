package irods

import (
	"math/rand/v2"
	"testing"
	"time"
)

const mib = 1 << 20

// network tells the speed of so many lanes together, in MiB/s.
type network func(lanes int) float64

// eachItsWindow is a long way: every connection adds the same.
func eachItsWindow(lanes int) float64 { return 80 * float64(lanes) }

// upTo is a link that takes no more than so much.
func upTo(most float64) network {
	return func(lanes int) float64 { return min(80*float64(lanes), most) }
}

// slower is a server that several connections make slower, as on loopback.
func slower(lanes int) float64 { return 400 / (1 + 0.2*float64(lanes-1)) }

// simulated is a transfer on such a network.
type simulated struct {
	growth
	now    time.Time
	price  time.Duration
	most   int // lanes that were at work at once
	fewest int // lanes that were wanted
	spent  int64
}

func simulate(most int, known lesson, size int64, price time.Duration) *simulated {
	s := &simulated{now: time.Unix(1e9, 0), price: price}
	s.growth = newGrowth(most, known, size, price, s.now)
	s.joined()
	s.most, s.fewest = 1, most
	return s
}

// run moves pieces until size bytes have gone. idle is the part of a lane's time for
// which it waits for the other end.
func (s *simulated) run(size int64, speed network, idle float64) {
	for left := size - pieceSize; left >= 0; left -= pieceSize {
		s.fill()
		took := time.Duration(pieceSize / mib / speed(s.lanes) * float64(time.Second))
		s.now = s.now.Add(took)
		s.spent += pieceSize
		waited := time.Duration(idle * float64(took) * float64(s.lanes))
		s.did(s.now, pieceSize, left, waited, s.price)
		s.fewest = min(s.fewest, s.want)
		if s.lanes > s.want {
			s.gone(s.now)
		}
	}
}

// fill brings the lanes that are wanted.
func (s *simulated) fill() {
	for s.lanes < s.want {
		s.joined()
		s.most = max(s.most, s.lanes)
	}
}

func TestGrowth(t *testing.T) {
	const price = 70 * time.Millisecond
	for _, c := range []struct {
		name        string
		speed       network
		size        int64
		idle        float64
		most        int // allowed
		tried, kept int
	}{
		{"each its window", eachItsWindow, 1 << 30, 0, 4, 4, 4},
		{"each its window, many allowed", eachItsWindow, 4 << 30, 0, 8, 8, 7}, // the eighth is worth a seventh, which is less than the gain asked for
		{"only one allowed", eachItsWindow, 1 << 30, 0, 1, 1, 1},
		{"full with one", upTo(80), 1 << 30, 0, 4, 2, 1},
		{"full with two", upTo(160), 1 << 30, 0, 4, 3, 2},
		{"full with two and a half", upTo(200), 1 << 30, 0, 4, 4, 3},
		{"full with a bit more than two", upTo(170), 1 << 30, 0, 4, 3, 2},
		{"loopback", slower, 1 << 30, 0, 4, 2, 1},
		{"not worth it", eachItsWindow, 16 << 20, 0, 4, 1, 1},
		{"not worth it on loopback", slower, 64 << 20, 0, 4, 1, 1},
		{"the other end is slow", eachItsWindow, 1 << 30, 0.5, 4, 1, 1},
		{"the other end is nearly as fast", eachItsWindow, 1 << 30, 0.1, 4, 4, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := simulate(c.most, lesson{}, c.size, price)
			s.run(c.size, c.speed, c.idle)
			if s.most != c.tried || s.lanes != c.kept {
				t.Errorf("tried %d lanes and kept %d, want %d and %d", s.most, s.lanes, c.tried, c.kept)
			}
		})
	}
}

func TestGrowthLearns(t *testing.T) {
	const price, size = 70 * time.Millisecond, 1 << 30
	first := simulate(4, lesson{}, size, price)
	first.run(size, upTo(160), 0)
	known := first.known
	if known.lanes != 2 {
		t.Fatalf("learned %+v, want two lanes", known)
	}
	again := simulate(4, known, size, price)
	again.now = first.now
	again.run(size, upTo(160), 0)
	if again.most != 2 || again.lanes != 2 {
		t.Errorf("the next transfer tried %d lanes and kept %d, want 2 and no trial", again.most, again.lanes)
	}
	if s := newGrowth(4, known, 8<<20, price, first.now); s.want != 1 {
		t.Errorf("a short transfer begins with %d lanes", s.want)
	}
	if s := newGrowth(4, known, size, price, known.until); s.want != 1 || !s.stop.IsZero() {
		t.Errorf("after the end of the lesson: %d lanes, stop %v", s.want, s.stop)
	}
	if s := newGrowth(1, known, size, price, first.now); s.want != 1 {
		t.Errorf("%d lanes where one is allowed", s.want)
	}
}

// TestGrowthForgets has a lesson that was taken over run out although transfers go on.
func TestGrowthForgets(t *testing.T) {
	const price = 70 * time.Millisecond
	known := lesson{lanes: 4, rate: 320 * mib, until: time.Unix(1e9, 0).Add(time.Minute)}
	s := simulate(4, known, 1<<30, price)
	s.run(1<<30, eachItsWindow, 0)
	if s.lanes != 4 || !s.known.until.Equal(known.until) {
		t.Errorf("%d lanes, believed until %v, want 4 until %v", s.lanes, s.known.until, known.until)
	}
}

// TestGrowthExpects has other work make every measurement a lie: a transfer that is known to
// be better with three lanes keeps them, also if nobody could have told that from its speed.
func TestGrowthExpects(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, known := range []lesson{{}, {lanes: 1, rate: 80 * mib, stop: time.Unix(2e9, 0), until: time.Unix(2e9, 0)}} {
		s := simulate(8, known, 1<<30, 70*time.Millisecond)
		s.expect(3)
		s.run(8<<30, func(lanes int) float64 { return upTo(150)(lanes) * (0.2 + 0.8*rnd.Float64()) }, 0)
		if s.fewest != 3 {
			t.Errorf("with %+v: %d lanes at least, want 3", known, s.fewest)
		}
	}
	s := simulate(2, lesson{}, 1<<30, 0)
	if s.expect(3); s.want != 2 {
		t.Errorf("%d lanes where two are allowed", s.want)
	}
}

// TestGrowthComesBack has expected lanes leave because nothing comes for them, or because
// they are needed elsewhere. They come back when there is enough to do, and after a while.
func TestGrowthComesBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(g *growth, now time.Time)
		rest  time.Duration
	}{
		{"bored", (*growth).bored, lull},
		{"lent", (*growth).gone, holdTime},
	} {
		s := simulate(8, lesson{}, 1<<40, 70*time.Millisecond)
		s.expect(3)
		s.run(1<<30, upTo(150), 0)
		for s.lanes > 1 {
			c.leave(&s.growth, s.now)
		}
		for _, step := range []struct {
			after time.Duration
			left  int64
			want  int
		}{{c.rest - 1, 1 << 30, 1}, {1, 2 * pieceSize, 1}, {0, 3 * pieceSize, 3}} {
			s.now = s.now.Add(step.after)
			s.did(s.now, pieceSize, step.left, 0, s.price)
			if s.want != step.want {
				t.Errorf("%s: %d lanes with %d bytes ready, want %d", c.name, s.want, step.left, step.want)
			}
		}
	}
}

// TestGrowthTriesAgain is a transfer so long that the network has changed.
func TestGrowthTriesAgain(t *testing.T) {
	s := simulate(4, lesson{}, 1<<40, 70*time.Millisecond)
	s.run(1<<30, upTo(80), 0)
	if s.lanes != 1 {
		t.Fatalf("%d lanes on a full link", s.lanes)
	}
	s.run(80*mib*int64(lessonLife/time.Second), eachItsWindow, 0)
	s.run(1<<30, eachItsWindow, 0)
	if s.lanes != 4 {
		t.Errorf("%d lanes after the link has become wider", s.lanes)
	}
}

func TestGrowthRefused(t *testing.T) {
	s := simulate(4, lesson{}, 1<<40, 70*time.Millisecond)
	for s.want == 1 {
		s.now = s.now.Add(50 * time.Millisecond)
		s.did(s.now, pieceSize, 1<<40, 0, s.price)
	}
	s.refused(s.now)
	begin := s.now
	for s.want == 1 {
		s.now = s.now.Add(50 * time.Millisecond)
		s.did(s.now, pieceSize, 1<<40, 0, s.price)
	}
	if again := s.now.Sub(begin); again < holdTime || again > 2*holdTime {
		t.Errorf("a refused lane is asked for again after %v", again)
	}
}

// TestGrowthLends gives lanes up to others.
func TestGrowthLends(t *testing.T) {
	s := simulate(4, lesson{}, 1<<40, 70*time.Millisecond)
	s.run(1<<30, eachItsWindow, 0)
	known := s.known
	for range 3 {
		s.gone(s.now)
	}
	if s.lanes != 1 || s.want != 1 {
		t.Fatalf("%d lanes, %d wanted", s.lanes, s.want)
	}
	s.run(80*mib, eachItsWindow, 0)
	if s.most = s.lanes; s.most != 1 {
		t.Errorf("%d lanes right after some were given up", s.most)
	}
	if s.known != known {
		t.Errorf("what is good with more connections was forgotten: %+v", s.known)
	}
	s.run(1<<30, eachItsWindow, 0)
	if s.lanes != 4 {
		t.Errorf("%d lanes after a while", s.lanes)
	}
}

// TestGrowthShrinks has the other end become slow.
func TestGrowthShrinks(t *testing.T) {
	s := simulate(4, lesson{}, 1<<40, 70*time.Millisecond)
	s.run(1<<30, eachItsWindow, 0)
	known := s.known
	s.run(1<<30, eachItsWindow, 0.9)
	if s.lanes != 1 {
		t.Errorf("%d lanes wait for the other end", s.lanes)
	}
	if s.known != known {
		t.Errorf("the other end's slowness has become a lesson: %+v", s.known)
	}
}

func TestLessons(t *testing.T) {
	var l lessons
	now := time.Unix(1e9, 0)
	l.put(writes, lesson{lanes: 3, until: now.Add(time.Minute)})
	l.put(writes, lesson{lanes: 2, until: now})
	l.put(reads, lesson{lanes: 4, until: now})
	if got := l.get(writes).lanes; got != 3 {
		t.Errorf("an older lesson of %d lanes has won", got)
	}
	if got := l.get(reads).lanes; got != 4 {
		t.Errorf("%d lanes for reads", got)
	}
}
