package remote_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// fastRetry repeats quickly and often.
var fastRetry = remote.RetryOptions{Tries: 30, Wait: 50 * time.Microsecond, MaxWait: time.Millisecond}

// stack is the order in which the program assembles the decorators.
func stack(b remote.Backend) remote.Backend {
	fast := remote.NewRate(1 << 30)
	b = remote.Limit(remote.Throttle(remote.Watchdog(b, time.Minute), fast, fast), 4)
	b = remote.Observe(b, slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})))
	b = remote.Breaker(b, remote.BreakerOptions{})
	return remote.Retry(b, fastRetry)
}

var decorators = map[string]func(remote.Backend) remote.Backend{
	"Intercept": func(b remote.Backend) remote.Backend { return remote.Intercept(b, passOn) },
	"Limit":     func(b remote.Backend) remote.Backend { return remote.Limit(b, 1) },
	"Throttle": func(b remote.Backend) remote.Backend {
		return remote.Throttle(b, remote.NewRate(200<<20), remote.NewRate(400<<20))
	},
	"Watchdog": func(b remote.Backend) remote.Backend { return remote.Watchdog(b, time.Minute) },
	"Observe":  func(b remote.Backend) remote.Backend { return remote.Observe(b, nil) },
	"Breaker":  func(b remote.Backend) remote.Backend { return remote.Breaker(b, remote.BreakerOptions{}) },
	"Retry":    func(b remote.Backend) remote.Backend { return remote.Retry(b, remote.RetryOptions{}) },
	"Stack":    stack,
}

// TestConformance runs the suite over each decorator, with a server that can stop
// to answer.
func TestConformance(t *testing.T) {
	for name, decorate := range decorators {
		t.Run(name, func(t *testing.T) {
			remotetest.Run(t, func(*testing.T) remotetest.Target {
				faulty := remotetest.Faulty(memory.New(memory.Options{Batches: remote.Batches{Files: 50, Bytes: 8 << 20, Size: 1 << 20, Parallel: 2}, Bundles: someBundles}), remotetest.Plan{})
				return remotetest.Target{Backend: decorate(faulty), Stall: faulty.Stall, LargeDir: 300, LargeFile: 1<<20 + 3}
			})
		})
	}
}

// TestModelUnderFaults wants a failing server under Retry to look like a good one:
// errors, lost answers, bodies that end early and uploads that break.
func TestModelUnderFaults(t *testing.T) {
	for name, opts := range map[string]memory.Options{
		"ReadBack": {}, "Checksums": {Checksums: true}, "Unguarded": {Unguarded: true},
	} {
		t.Run(name, func(t *testing.T) {
			var faulty *remotetest.FaultyBackend
			remotetest.RunModel(t, func(*testing.T) remotetest.Target {
				faulty = remotetest.Faulty(memory.New(opts), remotetest.Plan{Seed: 1, Rules: []remotetest.Rule{
					{P: 0.1, Fault: remotetest.FaultLost},
					{P: 0.1, Fault: remotetest.FaultError},
					{P: 0.05, Fault: remotetest.FaultError, Kind: remote.Locked},
					{P: 0.1, Fault: remotetest.FaultTruncate},
					{P: 0.1, Fault: remotetest.FaultReset},
				}})
				return remotetest.Target{Backend: remote.Retry(faulty, fastRetry)}
			})
			if n := faulty.Injected(); n < 500 {
				t.Errorf("only %d faults were injected", n)
			}
		})
	}
}
