package writeback

import (
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// TestPace wants what is under way to double in each round until there is trouble, and to
// grow by one in a round from then on.
func TestPace(t *testing.T) {
	p := newPace(64, time.Millisecond)
	now := time.Unix(1_700_000_000, 0)
	width := func() (n int) {
		for p.room(n, now) {
			n++
		}
		return n
	}
	round := func() {
		for range width() {
			p.wentWell()
		}
	}
	for _, want := range []int{4, 8, 16, 32, 64, 64} {
		if got := width(); got != want {
			t.Fatalf("%d at a time, want %d", got, want)
		}
		round()
	}
	for range 10 { // of one round
		p.failed(&remote.Error{Kind: remote.Unavailable}, now.Add(-time.Second), now, 0)
	}
	if got := width(); got != 32 {
		t.Errorf("%d at a time after trouble, want 32", got)
	}
	round()
	if got := width(); got < 33 || got > 34 {
		t.Errorf("%d at a time one round later, want 33", got)
	}
}
