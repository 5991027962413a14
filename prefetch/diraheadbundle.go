package prefetch

import "time"

// Bounds of Bundling's judgement.
const (
	bundleHold  = 3 * time.Second  // files wait for a bundle of which nothing is known, at most
	bundlePause = 30 * time.Second // after one that was not worth it; doubles each time
	bundleRest  = time.Hour        // up to this
	bundleFloor = 10 * time.Microsecond
	bundleNear  = 4 * time.Millisecond // a file that comes sooner needs no bundle
)

// Bundling judges whether the files of a directory come sooner in one bundle, as a server
// packs them, or each alone, many at a time. It is a pure struct without lock or clock, for
// one server. What it does not know it finds out by trying, and a try costs at most about
// as much time again as the files would have taken.
type Bundling struct {
	alone  time.Duration // of one request, while few are on the way
	each   time.Duration // between two files, while many are on the way
	packed time.Duration // between two files of a bundle

	pause time.Duration // after the next failure
	until time.Time     // no bundle before that
}

// Alone takes note that a file has come alone, while so many of at most most were on the
// way.
func (b *Bundling) Alone(took time.Duration, flying, most int) {
	if flying <= max(most/4, 1) || b.alone == 0 {
		b.alone = smooth(b.alone, took)
	}
	if flying > most/2 {
		b.each = smooth(b.each, took/time.Duration(flying))
	}
}

// smooth returns the mean with a new value, 0 being none yet.
func smooth(mean, v time.Duration) time.Duration {
	if v = max(v, bundleFloor); mean == 0 {
		return v
	}
	return mean + (v-mean)/4
}

// Once returns how long a file takes alone, 0 if that is not known.
func (b *Bundling) Once() time.Duration { return b.alone }

// Resting tells whether bundles are given up for a while.
func (b *Bundling) Resting(now time.Time) bool { return now.Before(b.until) }

// byOne returns how long n files take alone, most of them at a time.
func (b *Bundling) byOne(n, most int) time.Duration {
	each := b.each
	if each == 0 {
		each = b.alone / time.Duration(most)
	}
	return b.alone + time.Duration(n)*each
}

// bundled returns how long n files take in a bundle: a round trip for it, one for its proof.
func (b *Bundling) bundled(n int) time.Duration {
	return 2*b.alone + time.Duration(n)*b.packed
}

// Plan tells whether to ask for n files in a bundle, which alone would come most at a time.
// They are to be fetched alone if they have not come after hold. expect is when they
// probably come; 0 if nobody knows.
func (b *Bundling) Plan(now time.Time, n, most int) (hold, expect time.Duration, ok bool) {
	alone := b.byOne(n, most)
	switch {
	case b.alone < bundleNear || b.Resting(now):
		return 0, 0, false
	case b.packed == 0:
		return min(alone, bundleHold), 0, true
	}
	expect = b.bundled(n)
	if expect > alone*4/5 {
		b.fail(now)
		return 0, 0, false
	}
	return expect*3/2 + b.alone, expect, true
}

// Came takes note of a bundle that has brought came of n files after took.
func (b *Bundling) Came(now time.Time, came, n, most int, took time.Duration) {
	if came < (n+1)/2 {
		b.fail(now)
		return
	}
	b.packed = smooth(b.packed, (took-2*b.alone)/time.Duration(came))
	if b.bundled(n) > b.byOne(n, most) {
		b.fail(now)
		return
	}
	b.pause = 0
}

// fail begins a pause, after which all is found out again.
func (b *Bundling) fail(now time.Time) {
	b.pause = min(max(2*b.pause, bundlePause), bundleRest)
	b.until = now.Add(b.pause)
	b.packed = 0
}
