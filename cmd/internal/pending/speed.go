package pending

import (
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
)

// speeds is how fast uploads under way go, by branch. The store's rates count what is
// done: of one large file they know nothing until its end. It is pure.
type speeds struct {
	at   time.Time          // of the last look
	sent map[uint64]int64   // then, by change
	rate map[string]float64 // bytes/s, by branch
}

// Bounds of the time between two looks.
const (
	leastLook = 200 * time.Millisecond // sooner it is no new one
	smooth    = 3 * time.Second        // a look as long after the last counts alone
)

// look takes note of a status of time t.
func (s *speeds) look(now *writeback.Status, t time.Time) {
	dt := t.Sub(s.at)
	if !s.at.IsZero() && dt < leastLook {
		return
	}
	sent, moved := map[uint64]int64{}, map[string]int64{}
	for i := range now.Items {
		x := &now.Items[i]
		if x.State != writeback.Uploading {
			continue
		}
		sent[x.ID] = x.Sent
		moved[x.Branch] += max(x.Sent-s.sent[x.ID], 0)
	}
	rate := map[string]float64{}
	if !s.at.IsZero() {
		weight := min(1, dt.Seconds()/smooth.Seconds())
		for branch, n := range moved {
			before, known := s.rate[branch]
			rate[branch] = float64(n) / dt.Seconds()
			if known && before > 0 {
				rate[branch] = weight*rate[branch] + (1-weight)*before
			}
		}
	}
	s.at, s.sent, s.rate = t, sent, rate
}

// of returns the rate of a branch.
func (s *speeds) of(b *writeback.BranchStatus) float64 {
	if b.Uploading == 0 {
		return b.Rate
	}
	return max(b.Rate, s.rate[b.Name])
}
