package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"
)

// growTime bounds a piece of work of the growth of writing.
const growTime = 15 * time.Minute

// writeGrowGroup shows what a small file costs that is created, and removed, among many.
func writeGrowGroup(at place) group {
	name, title := "growwrite.disk", ""
	if at == onZone {
		name, title = "growwrite.zone", "zone: "
	}
	row := func(kind string, n int) string { return fmt.Sprintf("%s.%s.%d", name, kind, n) }
	return group{name: name, at: at, long: true, files: here,
		writes: func(z sizes) int64 { return int64(z.growWrite[len(z.growWrite)-1]) * 2 * growFileSize },
		rows: func(z sizes) []rowSpec {
			var rows []rowSpec
			for _, n := range z.growWrite {
				what := fmt.Sprintf("%s%d files of %d bytes ", title, n, growFileSize)
				rows = append(rows, withoutLimit(written(row("create", n), what+"created", perEntry, "", "RSS ≤ 256 MiB", rssAtMost(memoryBudget)))...)
				rows = append(rows, withoutLimit(written(row("rm", n), what+"removed by `rm -r`", perEntry, "", "RSS ≤ 256 MiB", rssAtMost(memoryBudget)))...)
			}
			return rows
		},
		work: func(s *session) {
			for _, n := range s.b.conf.size.growWrite {
				s.grow(row("create", n), row("rm", n), growFiles(n))
			}
		}}
}

// growFileSize is the size of files that are created in great numbers.
const growFileSize = 2000

// growFiles names files in directories of 500.
func growFiles(n int) []file {
	files := make([]file, n)
	for i := range files {
		files[i] = file{path: fmt.Sprintf("%s/d%04d/f%03d", treeTop, i/500, i%500), seed: writeSeed + uint64(i), size: growFileSize}
	}
	return files
}

// grow measures in one mount how files come to the server, and go.
func (s *session) grow(create, rm string, files []file) {
	to, err := s.target()
	if err != nil {
		s.b.warn("%s: %v", s.name, err)
		return
	}
	s.fresh()
	s.list(path.Dir(to.name))
	s.each(create, files, func(ctx context.Context) error {
		dir := filepath.Join(s.dir, to.name)
		for _, d := range parentsOf(files) {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				return err
			}
		}
		return writeFiles(ctx, dir, files, s.b.world.pattern)
	}, func(ctx context.Context) error { return to.arrive(ctx, files, &meter{}) })
	s.each(rm, files, func(ctx context.Context) error {
		return runProgram(ctx, "rm", "-r", filepath.Join(s.dir, to.name, treeTop))
	}, func(ctx context.Context) error { return to.leave(ctx, treeTop) })
	s.leave(to)
}

// each measures both rows of work on files, whose cost is that of one.
func (s *session) each(name string, files []file, work, arrive func(ctx context.Context) error) {
	program := &cell{}
	n := float64(len(files))
	c := s.measureFor(name+".server", growTime, func(ctx context.Context, m *meter) error {
		if err := s.timed(program, func() error { return work(ctx) }); err != nil {
			return err
		}
		err := arrive(ctx)
		m.add(n)
		return err
	})
	program.Value *= 1e6 / n
	s.addProgram(name+".program", program, c)
}
