package irods

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

func openCache(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(filepath.Join(t.TempDir(), "blocks"), cache.Options{Size: 128 << 20, BlockSize: cache.MinBlockSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestConformanceCached runs the suite on a block cache over all decorators.
func TestConformanceCached(t *testing.T) {
	store := openCache(t)
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		return cheap(target(t, func(b remote.Backend) remote.Backend {
			return store.Wrap(stacked(b), cache.Policy{Branch: t.Name()})
		}))
	})
}

// TestModelCachedUnderFaults runs random operations on a block cache over a zone that
// fails, which Retry above must make look like a good one.
func TestModelCachedUnderFaults(t *testing.T) {
	store := openCache(t)
	var faulty *remotetest.FaultyBackend
	remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
		return target(t, func(b remote.Backend) remote.Backend {
			faulty = remotetest.Faulty(b, remotetest.Plan{Seed: 1, Rules: []remotetest.Rule{
				{P: 0.1, Fault: remotetest.FaultError}, {P: 0.1, Fault: remotetest.FaultTruncate}, {P: 0.05, Fault: remotetest.FaultLost},
			}})
			c := store.Wrap(faulty, cache.Policy{Branch: t.Name()})
			return remote.Retry(c, remote.RetryOptions{Tries: 30, Wait: 50 * time.Microsecond, MaxWait: time.Millisecond})
		})
	})
	if n := faulty.Injected(); n < 20 {
		t.Errorf("only %d faults were injected", n)
	}
}
