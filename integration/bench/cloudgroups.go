package main

import (
	"context"
	"fmt"
)

func cloudSmallGroup() group {
	return group{name: "cloudsmall", at: onCloud, peers: true,
		files: func(c config) []file { return numbered("small/file%05d", c.size.small, int64(c.size.smallSize)) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("Nextcloud dialect: %d × %d KiB cold, `tar c`", z.small, z.smallSize>>10)
			return []rowSpec{{Name: "cloudsmall.tar", Title: title, Unit: filesPerS, Budget: "≥ 700/s", checks: []check{atLeast(700)}}}
		},
		work: func(s *session) {
			s.fresh()
			s.measure("cloudsmall.tar", s.b.conf.size.cut, func(ctx context.Context, m *meter) error {
				return tarAll(ctx, s.dir, "small", s.files, s.b.world.pattern, m)
			})
		}}
}

func cloudWriteSmallGroup() group {
	return group{name: "write.cloudsmall", at: onCloud, peers: true, files: here,
		writes: func(z sizes) int64 { return int64(z.writeSmall) * int64(z.smallSize) },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("Nextcloud dialect, `--bulk-upload`: %d × %d KiB created", z.writeSmall, z.smallSize>>10)
			return withoutLimit(written("write.cloudsmall", title, seconds, "", "≤ 2 s", atMost(2)))
		},
		work: func(s *session) {
			all := newSmall(s.b.conf.size.writeSmall, s.b.conf.size.smallSize)
			s.write("write.cloudsmall", all, func(ctx context.Context, dir string) error { return writeFiles(ctx, dir, all, s.b.world.pattern) })
		}}
}

func cloudWriteTreeGroup() group {
	return group{name: "write.cloudtree", at: onCloud, peers: true, files: here, writes: func(z sizes) int64 { return int64(z.treeFiles) * 16 << 10 },
		rows: func(z sizes) []rowSpec {
			title := fmt.Sprintf("Nextcloud dialect: source tree of %d files in %d directories, ", z.treeFiles, z.treeDirs)
			return withoutLimit(append(written("write.clouduntar", title+"`tar x`", seconds, "", "≤ 8 s", atMost(8)),
				written("write.cloudrm", title+"`rm -r`", seconds, "", "≤ 1 s", atMost(1))...))
		},
		work: func(s *session) { workTree(s, "write.clouduntar", "write.cloudrm") }}
}

// withoutLimit are rows of which nobody has measured what is possible.
func withoutLimit(rows []rowSpec) []rowSpec {
	for i := range rows {
		rows[i].Limit = ""
	}
	return rows
}
