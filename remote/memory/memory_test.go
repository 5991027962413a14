package memory_test

import (
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// conform runs the suite over a memory backend of these options, with large
// directories and files only if it is to be full.
func conform(t *testing.T, opts memory.Options, full bool) {
	remotetest.Run(t, func(*testing.T) remotetest.Target {
		target := remotetest.Target{Backend: memory.New(opts)}
		if !full {
			target.LargeDir, target.LargeFile = 200, 1<<20
		}
		return target
	})
}

func TestConformance(t *testing.T) {
	for name, opts := range map[string]memory.Options{
		"Strict":    {Batches: remote.Batches{Files: 50, Bytes: 8 << 20, Size: 1 << 20, Parallel: 2}},
		"Propagate": {Propagate: true, Checksums: true},
		"Unguarded": {Unguarded: true, NoRanges: true},
		"InPlace":   {InPlacePut: true},
		"Weak":      {WeakVersions: true, Granularity: time.Second},
		"NoAttrs":   {NoMTime: true, NoMode: true, NoSymlinks: true, AttrVersions: true},
		"MaxName":   {MaxName: 255, Quota: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) { conform(t, opts, name == "Strict") })
	}
}

func TestModel(t *testing.T) {
	for name, opts := range map[string]memory.Options{
		"Strict":    {},
		"Unguarded": {Unguarded: true},
		"InPlace":   {InPlacePut: true},
		"Weak":      {WeakVersions: true, Granularity: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			remotetest.RunModel(t, func(*testing.T) remotetest.Target {
				return remotetest.Target{Backend: memory.New(opts)}
			})
		})
	}
}
