package writeback

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Bounds of the waits after failures.
const (
	mostWait  = 60 * time.Second
	authWait  = 15 * time.Minute // a wrong secret is hardly ever sent: servers punish that
	fullWait  = 60 * time.Second
	firstPace = 4
)

// pace decides how many changes of a branch are under way and when. It doubles what goes
// well in each round until there is trouble for the first time, and adds to it from then on;
// at trouble it halves (AIMD). It is pure.
type pace struct {
	most   float64
	limit  float64
	halved time.Time // since when the present limit holds
	until  time.Time // nothing begins before
	why    error     // why the branch is held, nil if it is not
	holds  int       // holds in a row
	first  time.Duration
}

func newPace(most int, first time.Duration) pace {
	return pace{most: float64(most), limit: min(firstPace, float64(most)), first: first}
}

// room tells whether one more may begin when n are under way.
func (p *pace) room(n int, now time.Time) bool {
	if now.Before(p.until) {
		return false
	}
	if p.why != nil {
		return n < 1 // one that finds out
	}
	return float64(n) < max(p.limit, 1)
}

// wentWell notes a success.
func (p *pace) wentWell() {
	p.why, p.holds, p.until = nil, 0, time.Time{}
	more := 1.0
	if !p.halved.IsZero() {
		more /= max(p.limit, 1)
	}
	p.limit = min(p.most, p.limit+more)
}

// failed notes that what began at start failed with err, which may pass; asked is how long the server
// asked to wait.
func (p *pace) failed(err error, start, now time.Time, asked time.Duration) {
	switch remote.KindOf(err) {
	case remote.Auth:
		p.hold(err, now, authWait)
	case remote.NoSpace:
		p.hold(err, now, fullWait)
	case remote.Unavailable:
		if asked > 0 && p.until.Before(now.Add(asked)) {
			p.until = now.Add(asked) // it was not one change that the server has too much of
		}
		if start.After(p.halved) {
			p.limit, p.halved = max(1, p.limit/2), now
		}
	}
}

// hold keeps the branch from beginning anything for some time: shorter at first.
func (p *pace) hold(err error, now time.Time, most time.Duration) {
	wait := min(most, p.first<<min(p.holds, 10))
	if remote.KindOf(err) == remote.Auth {
		wait = most
	}
	p.why, p.until, p.holds = err, now.Add(wait), p.holds+1
}

// free ends a hold: somebody says that its cause is gone.
func (p *pace) free() { p.until, p.holds = time.Time{}, 0 }

// backOff returns how long a change waits after so many failures in a row, in part by
// chance, and at least what the server asked for.
func (p *pace) backOff(tries int, asked time.Duration) time.Duration {
	bound := min(mostWait, p.first<<min(max(tries-1, 0), 10))
	wait := bound/2 + rand.N(bound/2+1)
	return max(wait, asked)
}

// permanent tells whether an upload that failed with err will not go by itself soon: what
// waits for it is told.
func permanent(err error) bool {
	switch remote.KindOf(err) {
	case remote.Unavailable, remote.Locked, remote.Corrupt:
		return false
	}
	return err != nil
}

// final tells whether an error is parked. One of which nothing is known may be that of a
// network on the way, and goes on being tried.
func final(err error) bool {
	var e *remote.Error
	if errors.As(err, &e) && e.Op == "connect" {
		return false // the server has not heard of it
	}
	switch remote.KindOf(err) {
	case remote.Unavailable, remote.Locked, remote.Corrupt, remote.Auth, remote.NoSpace, remote.BadHandle, remote.Other:
		return false
	}
	return true
}

// rate measures bytes per second, over about ten seconds. It is pure.
type rate struct {
	at    time.Time
	value float64
}

// add counts n bytes that have gone by now.
func (r *rate) add(n int64, now time.Time) {
	const over = 10.0 // seconds
	if dt := now.Sub(r.at).Seconds(); r.at.IsZero() || dt > over {
		r.value = 0
	} else {
		r.value *= 1 - dt/over
	}
	r.value += float64(n) / over
	r.at = now
}

// now returns the rate.
func (r *rate) now(now time.Time) float64 {
	if r.at.IsZero() {
		return 0
	}
	return r.value * max(0, 1-now.Sub(r.at).Seconds()/10)
}
