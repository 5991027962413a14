package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const memoryBudget = 256 << 20

func mibText(n int64) string { return bytesText(n) }

func largeGroup() group {
	return group{name: "large", peers: true, files: func(c config) []file {
		return append(numbered("first/%d", 3, c.size.par/2), file{path: "large/big", size: c.size.big})
	}, rows: func(z sizes) []rowSpec {
		gib := float64(z.big) / (1 << 30)
		return []rowSpec{
			{Name: "large.first", Title: "first byte of a cold file, directory known", Unit: millis, Limit: "path", Budget: "≤ 120 ms", checks: []check{atMost(120)}},
			{Name: "large.cold", Title: "cold sequential read, " + mibText(z.big), Unit: mbPerS, Limit: "path", Budget: "≥ 98 % of the limit, ≤ 1.5 CPU s/GiB, RSS ≤ 256 MiB",
				checks: []check{ofLimit(0.98), cpuAtMost(1.5 * gib), rssAtMost(memoryBudget)}},
			{Name: "large.warm", Title: "warm read, page cache dropped", Unit: mbPerS, Limit: "local", Budget: "≥ 90 % of the local file system, ≤ 0.5 CPU s/GiB",
				checks: []check{ofLimit(0.9), cpuAtMost(0.5 * gib)}},
			{Name: "large.hot", Title: "hot read, page cache kept", Unit: mbPerS, Limit: "local", Budget: "≥ 90 % of the local file system", checks: []check{ofLimit(0.9)}},
			{Name: "large.random", Title: "random 4 KiB reads, warm, page cache dropped", Unit: readsPerS, Limit: "local", Budget: "≥ 20,000/s, p99 ≤ 1 ms", checks: []check{atLeast(20_000), p99AtMost(1)}},
			{Name: "large.killed", Title: "kill -9 and remount with this cached, until `ls -l`", Unit: millis, Budget: "≤ 1,000 ms", checks: []check{atMost(1000)}},
		}
	}, work: workLarge, limit: limitLarge}
}

func workLarge(s *session) {
	p, big := s.b.world.pattern, s.below("large")[0]
	if s.c != nil {
		s.fresh()
		s.list("first")
		s.measure("large.first", time.Minute, func(ctx context.Context, m *meter) error {
			return firstBytes(ctx, s.dir, s.below("first"), p, m)
		})
		s.fresh()
		s.list("large")
		s.measure("large.cold", time.Minute, func(ctx context.Context, m *meter) error {
			return readFile(ctx, s.dir, big, p, m)
		})
	}
	if s.drop() {
		s.measure("large.warm", 30*time.Second, func(ctx context.Context, m *meter) error {
			return readFile(ctx, s.dir, big, nil, m)
		})
	}
	s.measure("large.hot", 30*time.Second, func(ctx context.Context, m *meter) error {
		return readFile(ctx, s.dir, big, nil, m)
	})
	s.verify([]file{big}, "large.warm", "large.hot")
	if s.drop() {
		s.measure("large.random", 20*time.Second, func(ctx context.Context, m *meter) error {
			return readRandom(ctx, s.dir, big, s.b.conf.size.randomReads, 4*time.Second, p, m)
		})
	}
	if s.c != nil && s.c.daemon == nil {
		s.killAndList("large.killed", "large")
	}
}

// verify compares what rows without a check have left in the page cache; a fault fails
// them.
func (s *session) verify(files []file, rows ...string) {
	if s.dead != nil {
		return
	}
	if err := s.bounded(time.Minute, func(ctx context.Context) error {
		return readTogether(ctx, s.dir, files, 1, s.b.world.pattern, &meter{}, true)
	}); err != nil {
		for _, row := range rows {
			s.b.fail(row, s.name, err)
		}
	}
}

// killAndList kills the client, mounts again over the cache it has left, and notes how
// long it takes until a directory is listed.
func (s *session) killAndList(row, dir string) {
	if s.dead == nil {
		_ = syscall.Kill(s.c.pid, syscall.SIGKILL) // fails if it has died by itself
		s.c.destroy()
	}
	begin := time.Now()
	if s.dead = s.ctx.Err(); s.dead == nil {
		s.mount(false)
	}
	if c := s.measure(row, 20*time.Second, func(ctx context.Context, m *meter) error {
		return listAll(ctx, s.dir+"/"+dir, len(s.below(dir)), m)
	}); c.good() {
		c.Seconds = time.Since(begin).Seconds()
		c.Value = c.Seconds * 1000
	}
}

func limitLarge(s *session) {
	p, r := s.b.world.pattern, newRaw(s.b.world.sides[onDisk].addr, 8)
	defer r.close()
	s.measure("large.first", time.Minute, func(ctx context.Context, m *meter) error {
		f := s.below("first")[0]
		return r.pages(ctx, f, offsets(f, 5), p, m)
	})
	s.measure("large.cold", time.Minute, func(ctx context.Context, m *meter) error {
		return r.readRanges(ctx, s.below("large"), p, m)
	})
	workLarge(s)
}

func parallelGroup() group {
	return group{name: "parallel", peers: true, files: func(c config) []file { return numbered("parallel/%d", 4, c.size.par) },
		rows: func(z sizes) []rowSpec {
			return []rowSpec{{Name: "parallel.cold", Title: "4 × " + mibText(z.par) + " cold in parallel", Unit: mbPerS, Limit: "path",
				Budget: "≥ 98 % of the limit, RSS ≤ 256 MiB", checks: []check{ofLimit(0.98), rssAtMost(memoryBudget)}}}
		},
		work: func(s *session) {
			s.fresh()
			s.list("parallel")
			s.measure("parallel.cold", 40*time.Second, func(ctx context.Context, m *meter) error {
				return readTogether(ctx, s.dir, s.below("parallel"), 4, s.b.world.pattern, m, true)
			})
		},
		limit: func(s *session) {
			r := newRaw(s.b.world.sides[onDisk].addr, 8)
			defer r.close()
			s.measure("parallel.cold", time.Minute, func(ctx context.Context, m *meter) error {
				return r.readRanges(ctx, s.below("parallel"), s.b.world.pattern, m)
			})
		}}
}

func sparseGroup() group {
	return group{name: "sparse", peers: true, files: func(c config) []file { return []file{{path: "sparse/file", size: c.size.sparse}} },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("%d random cold 4 KiB reads in %s", z.sparseReads, mibText(z.sparse))
			return []rowSpec{
				{Name: "sparse.time", Title: title + ": time", Unit: seconds, Limit: "path", Budget: "p99 ≤ 3 round trips", checks: []check{p99AtMost(3 * float64(pathRTT/time.Millisecond))}},
				{Name: "sparse.bytes", Title: title + ": moved", Unit: megabytes, Limit: "path", Budget: "≤ 1/10 of rclone's", checks: []check{ofPeer(rclone, 0.1)}},
			}
		},
		work: func(s *session) {
			s.fresh()
			s.list("sparse")
			s.sparse(func(ctx context.Context, m *meter) error {
				return readRandom(ctx, s.dir, s.files[0], s.b.conf.size.sparseReads, time.Minute, s.b.world.pattern, m)
			})
		},
		limit: func(s *session) {
			r := newRaw(s.b.world.sides[onDisk].addr, 1)
			defer r.close()
			s.sparse(func(ctx context.Context, m *meter) error {
				return r.pages(ctx, s.files[0], offsets(s.files[0], s.b.conf.size.sparseReads), s.b.world.pattern, m)
			})
		}}
}

// sparse measures both rows of sparse reads.
func (s *session) sparse(work func(ctx context.Context, m *meter) error) {
	before := s.b.world.path.Counts()
	c := s.measure("sparse.time", 40*time.Second, work)
	down := s.b.world.path.Counts().Sub(before).Down
	if c == nil || c.Failed != "" {
		s.b.add("sparse.bytes", s.name, &cell{Failed: "see above"})
		return
	}
	s.b.add("sparse.bytes", s.name, &cell{Value: float64(down) / 1e6, Cut: c.Cut})
}
