package webdav_test

import (
	"path/filepath"
	"slices"
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

// cachedServers are those whose validators differ most: strong tags, and tags of times
// and sizes. A long run takes all.
func cachedServers() []server {
	return slices.DeleteFunc(servers(), func(s server) bool {
		return s.name != "efss-nextcloud" && s.name != "httpd" && !long()
	})
}

// TestConformanceCached runs the suite on a block cache over all decorators.
func TestConformanceCached(t *testing.T) {
	for _, s := range cachedServers() {
		t.Run(s.name, func(t *testing.T) {
			store := openCache(t)
			conform(t, s, checksOfNames, func(b remote.Backend) remote.Backend {
				return store.Wrap(stacked(b), cache.Policy{Branch: b.(remote.Locator).URL("/")})
			})
		})
	}
}

// TestModelCachedUnderFaults runs random operations on a block cache over a server that
// fails, which Retry above must make look like a good one.
func TestModelCachedUnderFaults(t *testing.T) {
	fewerRuns(t, 20)
	for _, s := range cachedServers() {
		t.Run(s.name, func(t *testing.T) {
			store := openCache(t)
			var faulty *remotetest.FaultyBackend
			remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
				faulty = remotetest.Faulty(able(dial(t, options(t, s.start(t)))), remotetest.Plan{Seed: 1, Rules: []remotetest.Rule{
					{P: 0.1, Fault: remotetest.FaultError}, {P: 0.1, Fault: remotetest.FaultTruncate}, {P: 0.05, Fault: remotetest.FaultLost},
				}})
				c := store.Wrap(faulty, cache.Policy{Branch: "b"})
				retry := remote.RetryOptions{Tries: 30, Wait: 50 * time.Microsecond, MaxWait: time.Millisecond}
				return remotetest.Target{Backend: remote.Retry(c, retry), MayRefuse: mayRefuse(s.dialect)}
			})
			if n := faulty.Injected(); n < 20 {
				t.Errorf("only %d faults were injected", n)
			}
		})
	}
}
