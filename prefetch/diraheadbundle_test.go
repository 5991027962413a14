package prefetch

import (
	"testing"
	"time"
)

// TestRest: what a bundle takes is not fetched alone, and what it does not bring is.
func TestRest(t *testing.T) {
	files := listing(199)
	files[50].Size, files[60].Size = 0, 10<<20
	d := NewDirAhead(files, 1<<20, 64)
	var fetched []string
	for _, f := range files[:3] {
		if d.Run() != 0 || d.Rest() != nil {
			t.Fatal("an order is seen too early")
		}
		fetched = append(fetched, namesOf(d.Open(f.Name, false))...)
	}
	rest := d.Rest()
	if d.Run() != 3 || len(fetched) != dirBatch || len(rest) != 199-3-dirBatch-2 || rest[0] != files[3+dirBatch] {
		t.Fatalf("run of %d, %d fetched, %d left", d.Run(), len(fetched), len(rest))
	}
	d.Take(rest)
	for _, f := range files[3:40] {
		if more := d.Open(f.Name, true); len(more) > 0 {
			t.Fatalf("%v are fetched besides", more)
		}
	}
	names := namesOf(rest)[20:] // the first ones were opened meanwhile, or have come
	back := d.GiveBack(names)
	if len(back) == 0 || len(back) > 64 || back[0] != files[40] {
		t.Fatalf("given back: %v", back)
	}
	all := map[string]bool{}
	for _, f := range back {
		all[f.Name] = true
	}
	for _, f := range files[40:] {
		for _, more := range d.Open(f.Name, true) {
			if all[more.Name] {
				t.Fatalf("%v is fetched twice", more)
			}
			all[more.Name] = true
		}
	}
	if len(all) != 199-40-2 {
		t.Errorf("%d files were fetched after all", len(all))
	}
}

// bundler is a server: latency, files a second alone, time for a file in a bundle.
type bundler struct{ latency, each, packed time.Duration }

// TestBundling: with a server that packs well bundles are used, with one that does not they
// are tried ever more seldom.
func TestBundling(t *testing.T) {
	const ms, n, most = time.Millisecond, 300, 64
	for name, c := range map[string]struct {
		bundler
		least, most int // bundles in 1,000 directories, 10 s apart
	}{
		"a server far away that works hard": {bundler{70 * ms, 5 * ms, ms}, 900, 1000},
		"packs at no cost":                  {bundler{50 * ms, ms, ms / 10}, 900, 1000},
		"packs as slowly as it sends":       {bundler{70 * ms, 5 * ms, 5 * ms}, 1, 20},
		"packs very slowly":                 {bundler{50 * ms, ms, 50 * ms}, 1, 20},
		"close and quick":                   {bundler{ms, ms / 10, ms / 100}, 0, 0},
		"close, and works hard":             {bundler{20 * ms, 5 * ms, ms / 10}, 900, 1000},
	} {
		var b Bundling
		now, bundles, lost := time.Unix(1e9, 0), 0, time.Duration(0)
		if _, _, ok := b.Plan(now, n, most); ok {
			t.Errorf("%s: a bundle without any knowledge", name)
		}
		for range 1000 {
			now = now.Add(10 * time.Second)
			b.Alone(c.latency, 1, most)
			alone, took := c.latency+n*c.each, 2*c.latency+n*c.packed
			hold, _, ok := b.Plan(now, n, most)
			if ok {
				bundles++
				b.Came(now, n, n, most, took)
				lost += max(min(took, hold+alone)-alone, 0)
			}
			if !ok || took > hold {
				b.Alone(c.each*most, most, most)
			}
		}
		if bundles < c.least || bundles > c.most {
			t.Errorf("%s: %d bundles", name, bundles)
		}
		if limit := 20 * bundleHold; lost > limit {
			t.Errorf("%s: %v were lost", name, lost)
		}
	}
}

// TestBundlingFailures: bundles that bring little are as bad as those that are slow.
func TestBundlingFailures(t *testing.T) {
	var b Bundling
	now := time.Unix(1e9, 0)
	b.Alone(50*time.Millisecond, 1, 64)
	if b.Once() != 50*time.Millisecond {
		t.Error(b.Once())
	}
	for wait := bundlePause; wait < bundleRest; wait *= 2 {
		hold, expect, ok := b.Plan(now, 1000, 64)
		if !ok || expect != 0 || hold > bundleHold {
			t.Fatalf("after %v: %v %v %t", wait, hold, expect, ok)
		}
		b.Came(now, 10, 1000, 64, time.Second)
		if _, _, ok := b.Plan(now.Add(wait-time.Second), 1000, 64); ok {
			t.Errorf("asked again before %v", wait)
		}
		now = now.Add(wait)
	}
	now = now.Add(bundleRest)
	b.Came(now, 1000, 1000, 64, 300*time.Millisecond)
	hold, expect, ok := b.Plan(now, 1000, 64)
	if !ok || expect != 300*time.Millisecond || hold != 500*time.Millisecond {
		t.Errorf("%v %v %t", hold, expect, ok)
	}
}
