package remote_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// server is a memory backend that can be dead, and counts what reaches it.
type server struct {
	remote.Backend
	faulty *remotetest.FaultyBackend
	calls  atomic.Int64
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{faulty: remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})}
	put(t, s.faulty, "/f", "content")
	s.Backend = remote.Intercept(s.faulty, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		s.calls.Add(1)
		return next(ctx)
	})
	return s
}

// Unwrap implements remote.Unwrapper.
func (s *server) Unwrap() remote.Backend { return s.Backend }

func (s *server) fail(kind remote.Kind) {
	s.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Fault: remotetest.FaultError, Kind: kind}}})
}

func (s *server) heal() { s.faulty.SetPlan(remotetest.Plan{}) }

// statKind makes a call and checks how it ends; remote.Other for success.
func statKind(t *testing.T, b remote.Backend, want remote.Kind) error {
	t.Helper()
	_, err := b.Stat(t.Context(), "/f")
	if want == remote.Other && err != nil || want != remote.Other && !errors.Is(err, want) {
		t.Errorf("stat: %v, want kind %v", err, want)
	}
	return err
}

func isOpen(err error) bool {
	var open *remote.OpenError
	return errors.As(err, &open)
}

func TestBreakerOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		var changes []error
		b := remote.Breaker(s, remote.BreakerOptions{Name: "cloud.example.org", OnChange: func(err error) { changes = append(changes, err) }})
		defer b.Close()
		s.fail(remote.Unavailable)
		for range 3 {
			if err := statKind(t, b, remote.Unavailable); isOpen(err) {
				t.Error("open too early")
			}
		}
		err := statKind(t, b, remote.Unavailable)
		var e *remote.Error
		if !isOpen(err) || !errors.As(err, &e) || e.RetryAfter <= 0 || e.RetryAfter > time.Second || e.Unsure {
			t.Errorf("the fourth call: %+v", err)
		}
		if text := err.Error(); !strings.Contains(text, "cloud.example.org not reachable since ") || !strings.Contains(text, "injected fault") {
			t.Errorf("the message is %q", text)
		}
		if n := s.calls.Load(); n != 3 {
			t.Errorf("%d calls reached the server, want 3", n)
		}
		if o, ok := b.Outage(); !ok || !o.Since.Equal(time.Now()) {
			t.Errorf("outage %+v, %v", o, ok)
		}
		s.heal()
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		statKind(t, b, remote.Other)
		if _, ok := b.Outage(); ok {
			t.Error("the outage is not over")
		}
		if len(changes) != 2 || !errors.Is(changes[0], remote.Unavailable) || changes[1] != nil {
			t.Errorf("changes told: %v", changes)
		}
	})
}

// TestBreakerIgnores makes calls whose errors say nothing bad about the server.
func TestBreakerIgnores(t *testing.T) {
	for _, kind := range remote.Kinds() {
		if kind == remote.Unavailable || kind == remote.Other {
			continue
		}
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 1})
		s.fail(kind)
		for range 5 {
			if err := statKind(t, b, kind); isOpen(err) {
				t.Fatalf("%v opened the breaker", kind)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBreakerIgnoresContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 2})
		defer b.Close()
		resume := s.faulty.Stall()
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := b.Stat(ctx, "/"); err != context.DeadlineExceeded {
				t.Errorf("stat: %v", err)
			}
			cancel()
		}
		resume()
		broken := &remote.Error{Op: "disk", Kind: remote.Unavailable}
		for range 5 {
			_, err := b.Put(t.Context(), "/g", errSource{broken}, remote.PutOptions{})
			if !errors.Is(err, broken) {
				t.Errorf("put: %v", err)
			}
		}
		statKind(t, b, remote.Other)
	})
}

// errSource fails as soon as it is opened.
type errSource struct{ err error }

func (errSource) Size() int64                    { return 10 }
func (s errSource) Open() (io.ReadCloser, error) { return nil, s.err }

// TestBreakerCountsInARow wants an answer between failures to start the count anew.
func TestBreakerCountsInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{})
		defer b.Close()
		for range 4 {
			s.fail(remote.Unavailable)
			statKind(t, b, remote.Unavailable)
			statKind(t, b, remote.Unavailable)
			s.fail(remote.NotExist)
			statKind(t, b, remote.NotExist)
		}
		if _, ok := b.Outage(); ok {
			t.Error("the breaker opened")
		}
	})
}

func TestBreakerTripsOnStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(remote.Watchdog(s, patience), remote.BreakerOptions{ProbeTimeout: time.Second})
		defer b.Close()
		resume := s.faulty.Stall()
		if err := statKind(t, b, remote.Unavailable); isOpen(err) {
			t.Error("open too early")
		}
		start := time.Now()
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) || time.Since(start) != 0 {
			t.Errorf("the second call after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Hour) // every probe hangs, too
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) {
			t.Errorf("an hour later: %v", err)
		}
		resume()
		time.Sleep(time.Minute)
		statKind(t, b, remote.Other)
	})
}

func TestBreakerProbesLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 1})
		defer b.Close()
		s.fail(remote.Unavailable)
		statKind(t, b, remote.Unavailable)
		before := s.calls.Load()
		time.Sleep(10 * time.Minute)
		// 1, 2, 4, 8, 16 and then 30 s, each up to a quarter shorter.
		if n := s.calls.Load() - before; n < 24 || n > 33 {
			t.Errorf("%d probes in ten minutes", n)
		}
		if o, _ := b.Outage(); time.Since(o.Since) != 10*time.Minute {
			t.Errorf("the outage is %v old", time.Since(o.Since))
		}
		s.fail(remote.Auth) // an answer, if not a nice one
		time.Sleep(31 * time.Second)
		if err := statKind(t, b, remote.Auth); isOpen(err) {
			t.Error("still open")
		}
	})
}

// TestBreakerCloseEndsProber closes at several moments of a probe; the test's
// bubble fails if a goroutine is left.
func TestBreakerCloseEndsProber(t *testing.T) {
	for _, wait := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			b := remote.Breaker(s, remote.BreakerOptions{Failures: 1})
			s.fail(remote.Unavailable)
			statKind(t, b, remote.Unavailable)
			s.faulty.Stall()
			time.Sleep(wait)
			start := time.Now()
			if err := b.Close(); err != nil || time.Since(start) != 0 {
				t.Errorf("close took %v, %v", time.Since(start), err)
			}
			statKind(t, b, remote.BadHandle)
		})
	}
}

// TestBreakerStream reads on while the breaker is open.
func TestBreakerStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 2})
		defer b.Close()
		r, err := b.Open(t.Context(), remote.Ref{Path: "/f"})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s.fail(remote.Unavailable)
		p := make([]byte, 2)
		for range 2 {
			_, err := r.Read(p)
			wantKind(t, err, remote.Unavailable)
		}
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) {
			t.Error("failing reads did not open the breaker")
		}
		s.heal()
		if n, err := r.Read(p); n != 2 || err != nil {
			t.Errorf("read in the outage: %d, %v", n, err)
		}
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) {
			t.Error("the read counted as a probe")
		}
	})
}

// TestBreakerInFlight lets a call end well that was on the way when others failed.
func TestBreakerInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 1})
		defer b.Close()
		s.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
			{Count: 1, Latency: time.Minute},
			{Fault: remotetest.FaultError},
		}})
		done := make(chan error)
		go func() { _, err := b.Stat(t.Context(), "/f"); done <- err }()
		synctest.Wait()
		statKind(t, b, remote.Unavailable)
		if err := <-done; err != nil {
			t.Errorf("the call in flight: %v", err)
		}
		if _, ok := b.Outage(); !ok {
			t.Error("the late success of an early call closed the breaker")
		}
	})
}

// TestBreakerNoVerdict wants a failing source between two failures to be neither a
// failure nor an answer.
func TestBreakerNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{Failures: 2})
		defer b.Close()
		fail := []remotetest.Rule{{Ops: []remote.Op{remote.OpStat}, Fault: remotetest.FaultError}}
		s.faulty.SetPlan(remotetest.Plan{Rules: fail})
		statKind(t, b, remote.Unavailable)
		if _, err := b.Put(t.Context(), "/g", errSource{io.ErrUnexpectedEOF}, remote.PutOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("put: %v", err)
		}
		if _, ok := b.Outage(); ok {
			t.Error("the source's error opened the breaker")
		}
		statKind(t, b, remote.Unavailable)
		if _, ok := b.Outage(); !ok {
			t.Error("the source's error was taken for an answer")
		}
	})
}

// TestBreakerCloseWaits wants Close to wait for a probe that takes time to end.
func TestBreakerCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls int
		b := remote.Breaker(remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, c *remote.Call, _ remote.Next) error {
			if calls++; calls > 1 {
				<-ctx.Done()
				time.Sleep(time.Minute)
			}
			return c.Fail(remote.Unavailable, nil)
		}), remote.BreakerOptions{Failures: 1})
		statKind(t, b, remote.Unavailable)
		time.Sleep(2 * time.Second)
		start := time.Now()
		if err := b.Close(); err != nil || time.Since(start) != time.Minute || calls != 2 {
			t.Errorf("close took %v after %d calls, %v", time.Since(start), calls, err)
		}
	})
}

// TestBreakerIgnoresPlannedChanges wants uploads that fail and are repeated by a plan not
// to keep anybody from reading.
func TestBreakerIgnoresPlannedChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := remote.Breaker(s, remote.BreakerOptions{})
		defer b.Close()
		s.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultError}}})
		upload := func(ctx context.Context) error {
			_, err := b.Put(ctx, "/g", remotetest.Bytes([]byte("x")), remote.PutOptions{})
			return err
		}
		for range 10 {
			if err := upload(remote.WithoutRetry(t.Context())); !errors.Is(err, remote.Unavailable) || isOpen(err) {
				t.Fatalf("put: %v", err)
			}
		}
		statKind(t, b, remote.Other)
		for range 3 {
			_ = upload(t.Context())
		}
		if err := statKind(t, b, remote.Unavailable); !isOpen(err) {
			t.Errorf("changes that nobody repeats count: %v", err)
		}
	})
}
