package pending

import (
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
)

func TestSpeedOfUploadsUnderWay(t *testing.T) {
	var s speeds
	clock := since
	b := writeback.BranchStatus{Name: "/a", Uploading: 1, Rate: 5}
	look := func(after time.Duration, sent ...int64) float64 {
		clock = clock.Add(after)
		var now writeback.Status
		for id, n := range sent {
			now.Items = append(now.Items, writeback.Item{ID: uint64(id), Branch: "/a", State: writeback.Uploading, Sent: n})
		}
		now.Items = append(now.Items, writeback.Item{ID: 100, Branch: "/a", State: writeback.Pending, Sent: 1 << 40})
		s.look(&now, clock)
		return s.of(&b)
	}
	for i, c := range []struct {
		after time.Duration
		sent  []int64
		want  float64
	}{
		{0, []int64{500}, 5},                         // nothing to compare with
		{time.Second, []int64{600}, 100},             // the first rate counts alone
		{100 * time.Millisecond, []int64{900}, 100},  // too early for another one
		{2900 * time.Millisecond, []int64{900}, 100}, // 300 in 3 s
		{3 * time.Second, []int64{1200, 300}, 200},   // a second one has begun
		{3 * time.Second, []int64{0, 300}, 5},        // one began anew, one stands: the store's rate
		{1500 * time.Millisecond, []int64{150, 300}, 100},
		{1500 * time.Millisecond, []int64{450, 300}, 150}, // half of 200 and half of 100
	} {
		if got := look(c.after, c.sent...); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
	if got := s.of(&writeback.BranchStatus{Name: "/a", Rate: 7}); got != 7 {
		t.Errorf("%v without uploads", got)
	}
}
