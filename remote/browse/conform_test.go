package browse_test

import (
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestConformance runs the suite over a backend with views: nothing else may be another.
func TestConformance(t *testing.T) {
	for name, opts := range map[string]memory.Options{
		"Strong":     {},
		"Weak":       {WeakVersions: true, Granularity: 1e9},
		"Propagates": {Propagate: true},
	} {
		t.Run(name, func(t *testing.T) {
			remotetest.Run(t, func(*testing.T) remotetest.Target {
				opts.Batches = remote.Batches{Files: 50, Bytes: 8 << 20, Size: 1 << 20, Parallel: 2}
				if !opts.WeakVersions {
					opts.Bundles = remote.Bundles{Files: 1000, Bytes: 8 << 20, Size: 1 << 20}
				}
				faulty := remotetest.Faulty(memory.New(opts), remotetest.Plan{})
				return remotetest.Target{Backend: browse.Wrap(faulty, browse.Options{}), Stall: faulty.Stall, LargeDir: 300, LargeFile: 1<<20 + 3}
			})
		})
	}
}
