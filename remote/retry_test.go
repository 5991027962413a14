package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// rules replaces the faults of a server.
func (s *server) rules(rules ...remotetest.Rule) {
	s.faulty.SetPlan(remotetest.Plan{Rules: rules})
}

func TestRetryKinds(t *testing.T) {
	retried := []remote.Kind{remote.Unavailable, remote.Locked, remote.Corrupt}
	for _, kind := range remote.Kinds() {
		if kind == remote.Other {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			b := remote.Retry(s, remote.RetryOptions{})
			s.rules(remotetest.Rule{Count: 2, Fault: remotetest.FaultError, Kind: kind})
			if slices.Contains(retried, kind) {
				statKind(t, b, remote.Other)
				if n := s.calls.Load(); n != 3 {
					t.Errorf("%v: %d attempts, want 3", kind, n)
				}
				return
			}
			err := statKind(t, b, kind)
			if n := s.calls.Load(); n != 1 || strings.Contains(err.Error(), "tries") {
				t.Errorf("%v: %d attempts, %v", kind, n, err)
			}
		})
	}
}

func TestRetryBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.fail(remote.Unavailable)
		b := remote.Retry(s, remote.RetryOptions{Tries: 4})
		err := statKind(t, b, remote.Unavailable)
		if n := s.calls.Load(); n != 4 || !strings.Contains(err.Error(), "after 4 tries") {
			t.Errorf("%d attempts, %v", n, err)
		}
		start := time.Now()
		b = remote.Retry(s, remote.RetryOptions{Tries: 1e6, Elapsed: 20 * time.Second})
		statKind(t, b, remote.Unavailable)
		if took := time.Since(start); took > 20*time.Second || took < 5*time.Second {
			t.Errorf("tried for %v, the bound is 20s", took)
		}
	})
}

// TestRetryWaits wants waits of random length under a bound that doubles.
func TestRetryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		b := remote.Retry(remote.Intercept(memory.New(memory.Options{}), func(_ context.Context, c *remote.Call, _ remote.Next) error {
			times = append(times, time.Now())
			return c.Fail(remote.Unavailable, nil)
		}), remote.RetryOptions{Tries: 8, Wait: time.Second, MaxWait: 10 * time.Second})
		seen := map[time.Duration]bool{}
		for range 50 {
			times = nil
			statKind(t, b, remote.Unavailable)
			for i := range len(times) - 1 {
				wait, bound := times[i+1].Sub(times[i]), min(time.Second<<i, 10*time.Second)
				if wait < 0 || wait > bound {
					t.Errorf("wait %d was %v, the bound is %v", i, wait, bound)
				}
				if i == 0 {
					seen[wait.Round(time.Second/4)] = true
				}
			}
		}
		if len(seen) < 4 {
			t.Errorf("the first waits are all alike: %v", seen)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Retry(s, remote.RetryOptions{MaxRetryAfter: 30 * time.Second})
		for asked, want := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second, time.Hour: 30 * time.Second} {
			s.rules(remotetest.Rule{Count: 1, Fault: remotetest.FaultError, RetryAfter: asked})
			start := time.Now()
			statKind(t, b, remote.Other)
			if took := time.Since(start); took < want || took > want+time.Second {
				t.Errorf("asked to wait %v, waited %v", asked, took)
			}
		}
	})
}

func TestRetryRewindsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Retry(s, remote.RetryOptions{})
		s.rules(remotetest.Rule{Ops: []remote.Op{remote.OpPut}, Count: 3, Fault: remotetest.FaultReset})
		data := remotetest.Pattern(100_000, 1)
		if _, err := b.Put(t.Context(), "/g", remotetest.Bytes(data), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := content(t, b, "/g"); got != string(data) {
			t.Errorf("%d bytes arrived", len(got))
		}
		s.calls.Store(0)
		s.heal()
		_, err := b.Put(t.Context(), "/h", errSource{&remote.Error{Op: "disk", Kind: remote.Unavailable}}, remote.PutOptions{})
		wantKind(t, err, remote.Unavailable)
		if n := s.calls.Load(); n != 1 {
			t.Errorf("a source that fails was put %d times", n)
		}
	})
}

func content(t *testing.T, b remote.Backend, path string) string {
	t.Helper()
	o, ok := remote.As[remote.Opener](b)
	if !ok {
		t.Fatal("no streams")
	}
	r, err := o.Open(t.Context(), remote.Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestRetryReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Retry(s, remote.RetryOptions{})
		s.rules(remotetest.Rule{Ops: []remote.Op{remote.OpRead, remote.OpOpen}, Count: 2, Fault: remotetest.FaultTruncate})
		p := make([]byte, 10)
		if n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f"}, p, 0); string(p[:n]) != "content" || err != io.EOF {
			t.Errorf("%q, %v", p[:n], err)
		}
		s.rules(remotetest.Rule{Ops: []remote.Op{remote.OpOpen}, Count: 2, Fault: remotetest.FaultLost})
		if got := content(t, b, "/f"); got != "content" {
			t.Errorf("the stream gave %q", got)
		}
	})
}

func TestRetryList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		for i := range 20 {
			put(t, s, fmt.Sprintf("/n%d", i), "")
		}
		s.rules(remotetest.Rule{Ops: []remote.Op{remote.OpList}, Count: 3, Fault: remotetest.FaultTruncate})
		seen := map[string]int{}
		list := func(b remote.Backend) error {
			return b.List(t.Context(), "/", func(e remote.Entry) error { seen[e.Path]++; return nil })
		}
		if err := list(remote.Retry(s, remote.RetryOptions{})); err != nil || len(seen) != 21 {
			t.Errorf("%d entries, %v", len(seen), err)
		}
		for path, n := range seen {
			if n != 1 {
				t.Errorf("%s was yielded %d times", path, n)
			}
		}
		// Too long to remember: no second attempt, and no double.
		s.rules(remotetest.Rule{Ops: []remote.Op{remote.OpList}, Count: 1, Fault: remotetest.FaultTruncate})
		clear(seen)
		wantKind(t, list(remote.Retry(s, remote.RetryOptions{MaxListed: 10})), remote.Unavailable)
		if len(seen) != 20 {
			t.Errorf("%d entries of the broken listing", len(seen))
		}
	})
}

// TestRetryYieldError wants the caller's own error back at once, retryable or not.
func TestRetryYieldError(t *testing.T) {
	s := newServer(t)
	b := remote.Retry(s, remote.RetryOptions{})
	mine, calls := &remote.Error{Op: "mine", Kind: remote.Unavailable}, 0
	if err := b.List(t.Context(), "/", func(remote.Entry) error { calls++; return mine }); err != mine || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestRetryEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.rules(remotetest.Rule{Fault: remotetest.FaultError, RetryAfter: 20 * time.Second})
		b := remote.Retry(s, remote.RetryOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := b.Stat(ctx, "/f"); err != context.DeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { _ = b.Close() })
		start = time.Now()
		_, err := b.Stat(t.Context(), "/f")
		wantKind(t, err, remote.BadHandle)
		if took := time.Since(start); took != time.Second {
			t.Errorf("close ended the wait after %v", took)
		}
	})
}

// TestRetryDeadServer is the promise of the whole stack: a dead server costs its
// time once, then calls fail fast, and when it is back all is well.
func TestRetryDeadServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Retry(remote.Breaker(remote.Limit(remote.Watchdog(s, patience), 2), remote.BreakerOptions{}),
			remote.RetryOptions{Elapsed: time.Minute})
		defer b.Close()
		resume := s.faulty.Stall()
		start := time.Now()
		statKind(t, b, remote.Unavailable)
		if took := time.Since(start); took < patience || took > patience+2*time.Minute {
			t.Errorf("the first call took %v", took)
		}
		time.Sleep(2 * time.Minute)
		start = time.Now()
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) || time.Since(start) != 0 {
			t.Errorf("a later call took %v: %v", time.Since(start), err)
		}
		resume()
		time.Sleep(time.Minute)
		statKind(t, b, remote.Other)
		// A short outage is bridged: calls wait for the probe.
		s.rules(remotetest.Rule{Count: 3, Fault: remotetest.FaultError})
		for range 3 {
			statKind(t, b, remote.Other)
		}
	})
}

func TestRetryKeepsUnsure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Retry(s, remote.RetryOptions{Tries: 3})
		s.rules(remotetest.Rule{Count: 1, Fault: remotetest.FaultLost}, remotetest.Rule{Fault: remotetest.FaultError})
		_, err := b.Put(t.Context(), "/g", remotetest.Bytes([]byte("x")), remote.PutOptions{})
		if e := wantKind(t, err, remote.Unavailable); !e.Unsure {
			t.Errorf("the lost answer is forgotten: %v", err)
		}
		s.fail(remote.Unavailable)
		_, err = b.Put(t.Context(), "/h", remotetest.Bytes([]byte("x")), remote.PutOptions{})
		if e := wantKind(t, err, remote.Unavailable); e.Unsure {
			t.Errorf("unsure of what was never done: %v", err)
		}
	})
}

func TestErrorOfRetryReads(t *testing.T) {
	s := newServer(t)
	s.fail(remote.Unavailable)
	b := remote.Retry(s, remote.RetryOptions{Tries: 2, Wait: time.Microsecond})
	_, err := b.Stat(t.Context(), "/f")
	want := "stat /f: after 2 tries: stat /f: not available: remotetest: injected fault"
	if err.Error() != want || !errors.Is(err, remotetest.ErrInjected) {
		t.Errorf("the error reads %q, want %q", err, want)
	}
}
