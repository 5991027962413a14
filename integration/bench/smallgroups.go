package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

func treeGroup() group {
	return group{name: "tree", peers: true, files: func(c config) []file { return treeFiles("tree", c.size.dirs, c.size.perDir) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("`ls -lR`, %d files in %d directories, ", z.dirs*z.perDir, z.dirs)
			return []rowSpec{
				{Name: "tree.cold", Title: title + "cold", Unit: seconds, Limit: "path", Budget: "≤ 0.6 s", checks: []check{atMost(0.6)}},
				{Name: "tree.warm", Title: title + "warm", Unit: seconds, Limit: "local", Budget: "≤ 0.15 s", checks: []check{atMost(0.15)}},
				{Name: "tree.remount", Title: title + "after remount", Unit: seconds, Limit: "local", Budget: "≤ 0.3 s", checks: []check{atMost(0.3)}},
			}
		},
		work: func(s *session) {
			s.fresh()
			s.listRow("tree.cold", "tree")
			s.listRow("tree.warm", "tree")
			s.again()
			s.listRow("tree.remount", "tree")
		},
		limit: func(s *session) {
			r := newRaw(s.b.world.sides[onDisk].addr, 32)
			defer r.close()
			s.measure("tree.cold", time.Minute, func(ctx context.Context, m *meter) error {
				return r.listTree(ctx, "tree", subdirs(s.files), len(s.files), m)
			})
			s.listRow("", "tree") // from the disk
			s.listRow("tree.warm", "tree")
			s.listRow("tree.remount", "tree")
		}}
}

// listRow measures ls -lR of a directory.
func (s *session) listRow(row, dir string) *cell {
	return s.measure(row, s.b.conf.limit, func(ctx context.Context, m *meter) error {
		return listAll(ctx, filepath.Join(s.dir, dir), len(s.below(dir)), m)
	})
}

func smallGroup() group {
	return group{name: "small", peers: true, files: func(c config) []file { return numbered("small/file%05d", c.size.small, int64(c.size.smallSize)) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("%d × %d KiB cold, ", z.small, z.smallSize>>10)
			return []rowSpec{
				{Name: "small.tar", Title: title + "`tar c`", Unit: filesPerS, Limit: "path", Budget: "≥ 700/s", checks: []check{atLeast(700)}},
				{Name: "small.one", Title: title + "`cat` one by one", Unit: filesPerS, Limit: "path", Budget: "≥ 500/s", checks: []check{atLeast(500)}},
				{Name: "small.eight", Title: title + "`cat` 8 at a time", Unit: filesPerS, Limit: "path", Budget: "≥ 700/s", checks: []check{atLeast(700)}},
			}
		},
		work: func(s *session) {
			s.fresh()
			s.measure("small.tar", s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
				return tarAll(ctx, s.dir, "small", s.files, s.b.world.pattern, m)
			})
			s.catRow("small.one", "small", 1)
			s.catRow("small.eight", "small", 8)
		},
		limit: func(s *session) {
			for _, row := range []string{"small.tar", "small.one", "small.eight"} {
				r := newRaw(s.b.world.sides[onDisk].addr, 64)
				s.measure(row, time.Minute, func(ctx context.Context, m *meter) error {
					return r.readFiles(ctx, s.files, s.b.world.pattern, m)
				})
				r.close()
			}
		}}
}

// catRow reads a directory's files, some at a time, with a cold cache and the directory
// known.
func (s *session) catRow(row, dir string, at int) {
	s.fresh()
	s.list(dir)
	s.measure(row, s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
		return readTogether(ctx, s.dir, s.below(dir), at, s.b.world.pattern, m, false)
	})
}

// readersGroup shows how memory grows with the number of files read at once.
func readersGroup() group {
	return group{name: "readers", peers: true, files: func(c config) []file {
		return numbered("readers/%02d", c.size.readers[len(c.size.readers)-1], c.size.reader)
	}, rows: func(z sizes) []rowSpec {
		var rows []rowSpec
		for _, n := range z.readers {
			rows = append(rows, rowSpec{Name: fmt.Sprintf("readers.%d", n), Title: fmt.Sprintf("peak RSS, %d cold files of %s read at once", n, mibText(z.reader)),
				Unit: mib, Budget: "≤ 256 MiB", checks: []check{atMost(memoryBudget >> 20)}})
		}
		return rows
	}, work: func(s *session) {
		for _, n := range s.b.conf.size.readers {
			s.fresh()
			s.list("readers")
			s.measure(fmt.Sprintf("readers.%d", n), s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
				return readTogether(ctx, s.dir, s.files[:n], n, s.b.world.pattern, m, true)
			})
		}
	}}
}

// growGroup shows what a file costs in trees of several sizes.
func growGroup() group {
	counts := func(z sizes, long bool) []int {
		if long {
			return append(z.grow[:len(z.grow):len(z.grow)], 100_000)
		}
		return z.grow
	}
	return group{name: "grow", files: func(c config) []file {
		var files []file
		for _, n := range counts(c.size, c.long) {
			files = append(files, treeFiles(fmt.Sprintf("grow%d", n), n/100, 100)...)
		}
		return files
	}, rows: func(z sizes) []rowSpec {
		var rows []rowSpec
		for _, n := range counts(z, true) {
			title := fmt.Sprintf("tree of %d files, ", n)
			rows = append(rows, rowSpec{Name: fmt.Sprintf("grow.ls.%d", n), Title: title + "cold `ls -lR`", Unit: perEntry},
				rowSpec{Name: fmt.Sprintf("grow.warm.%d", n), Title: title + "warm `ls -lR`", Unit: perEntry},
				rowSpec{Name: fmt.Sprintf("grow.cat.%d", n), Title: title + "cold `cat` one by one", Unit: perEntry})
		}
		return rows
	}, work: func(s *session) {
		for _, n := range counts(s.b.conf.size, s.b.conf.long) {
			dir := fmt.Sprintf("grow%d", n)
			s.fresh()
			s.listRow(fmt.Sprintf("grow.ls.%d", n), dir)
			s.listRow(fmt.Sprintf("grow.warm.%d", n), dir)
			s.measure(fmt.Sprintf("grow.cat.%d", n), s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
				return readTogether(ctx, s.dir, s.below(dir), 1, s.b.world.pattern, m, false)
			})
		}
	}}
}
