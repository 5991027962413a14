package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// here makes the directory below which clients write.
func here(config) []file { return []file{{path: "write/here", size: 1}} }

// written are the two rows of a piece of work that writes: when all is on the server, and
// when the program was done.
func written(name, title string, u unit, limit, budget string, checks ...check) []rowSpec {
	return []rowSpec{
		{Name: name + ".server", Title: title + ", until on the server", Unit: u, Limit: limit, Budget: budget, checks: checks},
		{Name: name + ".program", Title: title + ", until the program is done", Unit: u, Limit: "local"},
	}
}

func writeGroup() group {
	return group{name: "write.big", peers: true, files: here, writes: func(z sizes) int64 { return z.write },
		rows: func(z sizes) []rowSpec {
			return written("write.big", mibText(z.write)+" written", seconds, "path", "≤ 1.05 × the limit, RSS ≤ 256 MiB", ofLimit(1/1.05), rssAtMost(memoryBudget))
		},
		work: func(s *session) {
			big := []file{{path: "big", seed: writeSeed, size: s.b.conf.size.write}}
			s.write("write.big", big, func(ctx context.Context, dir string) error { return writeFiles(ctx, dir, big, s.b.world.pattern) })
		},
		limit: func(s *session) {
			f := file{path: "big", seed: writeSeed, size: s.b.conf.size.write}
			s.writeRaw("write.big.server", 8, func(ctx context.Context, r *raw, dir string, m *meter) error {
				return r.putAll(ctx, dir, split(f, 8), 8, s.b.world.pattern, m)
			})
			s.writeLocally("write.big.program", func(ctx context.Context, dir string) error {
				return writeFiles(ctx, dir, []file{f}, s.b.world.pattern)
			})
		}}
}

func writeSmallGroup() group {
	files := func(z sizes) []file { return newSmall(z.writeSmall, z.smallSize) }
	return group{name: "write.small", peers: true, files: here, writes: func(z sizes) int64 { return int64(z.writeSmall) * int64(z.smallSize) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("%d × %d KiB created", z.writeSmall, z.smallSize>>10)
			return written("write.small", title, seconds, "path", "≤ 3 s", atMost(3))
		},
		work: func(s *session) {
			all := files(s.b.conf.size)
			s.write("write.small", all, func(ctx context.Context, dir string) error { return writeFiles(ctx, dir, all, s.b.world.pattern) })
		},
		limit: func(s *session) {
			all := files(s.b.conf.size)
			s.writeRaw("write.small.server", 64, func(ctx context.Context, r *raw, dir string, m *meter) error {
				return r.putAll(ctx, dir, all, 64, s.b.world.pattern, m)
			})
			s.writeLocally("write.small.program", func(ctx context.Context, dir string) error {
				return writeFiles(ctx, dir, all, s.b.world.pattern)
			})
		}}
}

// newSmall names small files that are created.
func newSmall(n, size int) []file {
	all := numbered("new%05d", n, int64(size))
	for i := range all {
		all[i].seed = writeSeed + uint64(i)
	}
	return all
}

// treeTop is the directory of the source tree.
const treeTop = "source"

func writeTreeGroup() group {
	return group{name: "write.tree", peers: true, files: here, writes: func(z sizes) int64 { return int64(z.treeFiles) * 16 << 10 },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("source tree of %d files in %d directories, ", z.treeFiles, z.treeDirs)
			return append(written("write.untar", title+"`tar x`", seconds, "path", "≤ 8 s", atMost(8)),
				written("write.rm", title+"`rm -r`", seconds, "path", "≤ 1 s", atMost(1))...)
		},
		work: func(s *session) { workTree(s, "write.untar", "write.rm") }, limit: limitTree}
}

// workTree unpacks a tree, and removes another one like it.
func workTree(s *session, untar, rm string) {
	all := sourceTree(treeTop, s.b.conf.size.treeFiles, s.b.conf.size.treeDirs)
	archive, err := s.archive(all)
	if err != nil {
		s.dead = err
	}
	s.write(untar, all, func(ctx context.Context, dir string) error { return runProgram(ctx, "tar", "-xf", archive, "-C", dir) })
	s.removeTree(rm, all)
}

// archive makes the archive of a tree, once.
func (s *session) archive(files []file) (string, error) {
	name := filepath.Join(s.b.world.dir, treeTop+".tar")
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return name, err
	}
	return name, packTree(name, files, s.b.world.pattern)
}

func limitTree(s *session) {
	all := sourceTree(treeTop, s.b.conf.size.treeFiles, s.b.conf.size.treeDirs)
	s.writeRaw("write.untar.server", 64, func(ctx context.Context, r *raw, dir string, m *meter) error {
		if err := r.makeDirs(ctx, dir, parentsOf(all), 64); err != nil {
			return err
		}
		if err := r.putAll(ctx, dir, all, 64, s.b.world.pattern, m); err != nil {
			return err
		}
		begin := time.Now()
		err := r.send(ctx, "DELETE", path.Join(dir, treeTop)+"/", nil, 0)
		s.b.add("write.rm.server", limitName, &cell{Value: time.Since(begin).Seconds(), Seconds: time.Since(begin).Seconds()})
		return err
	})
	archive, err := s.archive(all)
	if err != nil {
		s.b.warn("%v", err)
		return
	}
	s.writeLocally("write.untar.program", func(ctx context.Context, dir string) error { return runProgram(ctx, "tar", "-xf", archive, "-C", dir) })
}

func zoneWriteGroup() group {
	return group{name: "write.zone", at: onZone, peers: true, files: here, writes: func(z sizes) int64 { return z.write },
		rows: func(z sizes) []rowSpec {
			return written("write.zone", "zone: "+mibText(z.write)+" written", seconds, "path", "≥ 95 % of the limit, RSS ≤ 256 MiB", ofLimit(0.95), rssAtMost(memoryBudget))
		},
		work: func(s *session) {
			big := []file{{path: "big", seed: writeSeed, size: s.b.conf.size.write}}
			s.write("write.zone", big, func(ctx context.Context, dir string) error { return writeFiles(ctx, dir, big, s.b.world.pattern) })
		},
		limit: func(s *session) {
			s.measure("write.zone.server", time.Minute, func(ctx context.Context, m *meter) error {
				return s.b.world.stream(ctx, s.b.conf.size.write, m)
			})
			s.writeLocally("write.zone.program", func(ctx context.Context, dir string) error {
				return writeFiles(ctx, dir, []file{{path: "big", seed: writeSeed, size: s.b.conf.size.write}}, s.b.world.pattern)
			})
		}}
}

func zoneWriteSmallGroup() group {
	return group{name: "write.zonesmall", at: onZone, peers: true, puts: true, files: here, writes: func(z sizes) int64 { return int64(z.writeSmall) * int64(z.smallSize) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("zone: %d × %d KiB created", z.writeSmall, z.smallSize>>10)
			return written("write.zonesmall", title, seconds, "", "≤ 2 s", atMost(2))
		},
		work: func(s *session) {
			all := newSmall(s.b.conf.size.writeSmall, s.b.conf.size.smallSize)
			if s.c.put != nil {
				s.upload("write.zonesmall", all)
				return
			}
			s.write("write.zonesmall", all, func(ctx context.Context, dir string) error { return writeFiles(ctx, dir, all, s.b.world.pattern) })
		},
		limit: func(s *session) {
			all := newSmall(s.b.conf.size.writeSmall, s.b.conf.size.smallSize)
			s.writeLocally("write.zonesmall.program", func(ctx context.Context, dir string) error {
				return writeFiles(ctx, dir, all, s.b.world.pattern)
			})
		}}
}

func zoneWriteTreeGroup() group {
	return group{name: "write.zonetree", at: onZone, peers: true, puts: true, files: here, writes: func(z sizes) int64 { return int64(z.treeFiles) * 16 << 10 },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("zone: source tree of %d files in %d collections, ", z.treeFiles, z.treeDirs)
			return withoutLimit(append(written("write.zoneuntar", title+"`tar x`", seconds, "", ""),
				written("write.zonerm", title+"`rm -r`", seconds, "", "")...))
		},
		work: func(s *session) {
			if s.c != nil && s.c.put != nil {
				s.upload("write.zoneuntar", sourceTree(treeTop, s.b.conf.size.treeFiles, s.b.conf.size.treeDirs))
				return
			}
			workTree(s, "write.zoneuntar", "write.zonerm")
		}}
}
