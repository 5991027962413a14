package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func zoneGroup() group {
	return group{name: "zone", at: onZone, peers: true, files: func(c config) []file {
		return append(numbered("first/%d", 3, c.size.par/8), file{path: "large/big", size: c.size.zoneBig})
	}, rows: func(z sizes) []rowSpec {
		return []rowSpec{
			{Name: "zone.first", Title: "zone: first byte of a cold object", Unit: millis, Budget: "≤ 300 ms", checks: []check{atMost(300)}},
			{Name: "zone.cold", Title: "zone: cold sequential read, " + mibText(z.zoneBig), Unit: mbPerS, Limit: "path", Budget: "≥ 95 % of the limit", checks: []check{ofLimit(0.95)}},
			{Name: "zone.again", Title: "zone: read again, page cache dropped", Unit: mbPerS, Limit: "local", Budget: "≥ 90 % of the local file system", checks: []check{ofLimit(0.9)}},
		}
	}, work: func(s *session) {
		p, big := s.b.world.pattern, s.below("large")[0]
		s.fresh()
		s.list("first")
		s.measure("zone.first", time.Minute, func(ctx context.Context, m *meter) error {
			return firstBytes(ctx, s.dir, s.below("first"), p, m)
		})
		s.fresh()
		s.list("large")
		s.measure("zone.cold", s.b.conf.size.cut+10*time.Second, func(ctx context.Context, m *meter) error {
			return readFile(ctx, s.dir, big, p, m)
		})
		if s.dead != nil { // it was so slow that it was killed
			s.again()
		}
		if s.drop() {
			s.measure("zone.again", s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
				return readFile(ctx, s.dir, big, p, m)
			})
		}
	}, limit: func(s *session) {
		s.measure("zone.cold", time.Minute, func(ctx context.Context, m *meter) error {
			return s.b.world.stream(ctx, s.b.conf.size.zoneBig, m)
		})
		if s.drop() {
			s.measure("zone.again", time.Minute, func(ctx context.Context, m *meter) error {
				return readLargest(ctx, filepath.Join(s.b.world.dir, "zone"), m)
			})
		}
	}}
}

// readLargest reads the largest file below a directory: the zone's own copy of its
// largest object.
func readLargest(ctx context.Context, dir string, m *meter) error {
	var name string
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			name, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	fd, err := open(name)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for buf := make([]byte, bufferSize); ctx.Err() == nil; {
		n, err := unix.Read(fd, buf)
		if n <= 0 {
			return err
		}
		m.add(float64(n))
	}
	return ctx.Err()
}

func zoneSmallGroup() group {
	return group{name: "zonesmall", at: onZone, peers: true, files: func(c config) []file {
		return append(numbered("small/object%04d", c.size.zoneSmall, int64(c.size.smallSize)),
			numbered("many/object%05d", c.size.small, int64(c.size.smallSize))...)
	}, rows: func(z sizes) []rowSpec {
		title := fmt.Sprintf("zone: %d × %d KiB cold, ", z.zoneSmall, z.smallSize>>10)
		return []rowSpec{
			{Name: "zonesmall.one", Title: title + "one by one", Unit: filesPerS, Budget: "≥ 80/s", checks: []check{atLeast(80)}},
			{Name: "zonesmall.eight", Title: title + "8 at a time", Unit: filesPerS, Budget: "≥ 80/s", checks: []check{atLeast(80)}},
			{Name: "zonesmall.tar", Title: fmt.Sprintf("zone: %d × %d KiB cold, `tar c`", z.small, z.smallSize>>10), Unit: filesPerS, Budget: "≥ 80/s", checks: []check{atLeast(80)}},
		}
	}, work: func(s *session) {
		s.catRow("zonesmall.one", "small", 1)
		s.catRow("zonesmall.eight", "small", 8)
		s.fresh()
		s.measure("zonesmall.tar", s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
			return tarAll(ctx, s.dir, "many", s.below("many"), s.b.world.pattern, m)
		})
	}}
}

func zoneTreeGroup() group {
	return group{name: "zonetree", at: onZone, peers: true, files: func(c config) []file { return treeFiles("tree", c.size.zoneDirs, c.size.inDir) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("zone: `ls -lR`, %d objects in %d collections, ", z.zoneDirs*z.inDir, z.zoneDirs)
			return []rowSpec{
				{Name: "zonetree.cold", Title: title + "cold", Unit: seconds, Budget: "≤ 0.5 s", checks: []check{atMost(0.5)}},
				{Name: "zonetree.remount", Title: title + "after remount", Unit: seconds},
			}
		}, work: func(s *session) {
			s.fresh()
			s.listRow("zonetree.cold", "tree")
			s.again()
			s.listRow("zonetree.remount", "tree")
		}}
}
