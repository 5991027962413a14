package irods

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// holdQueries makes all queries wait until release is called.
func holdQueries(t *testing.T, z *zone.Zone) (release func()) {
	gate := make(chan struct{})
	z.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == wire.APIGenQuery {
			<-gate
		}
		return nil
	})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return release
}

// stats starts n calls and returns a function that waits for their errors.
func stats(ctx context.Context, b *Backend, n int) (wait func() []error) {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, errs[i] = b.Stat(ctx, "/") })
	}
	return func() []error { all.Wait(); return errs }
}

// TestOneConnection makes calls one after the other.
func TestOneConnection(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for range 20 {
		stat(t, b, "/")
	}
	if b.pool.count() != 1 || z.Logins() != 1 {
		t.Errorf("%d connections, %d logins", b.pool.count(), z.Logins())
	}
}

// TestPoolGrows makes more calls at once than there may be connections.
func TestPoolGrows(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.MaxConns = 3
	b := dial(t, opts)
	release := holdQueries(t, z)
	wait := stats(t.Context(), b, 10)
	eventually(t, "three connections", func() bool { return z.Agents() == 3 })
	eventually(t, "seven calls that wait", func() bool { return waiting(b) == 7 })
	release()
	if err := errors.Join(wait()...); err != nil {
		t.Error(err)
	}
	if z.Logins() != 3 {
		t.Errorf("%d logins", z.Logins())
	}
}

func waiting(b *Backend) int {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	return len(b.pool.waiting)
}

// TestPatience is how long a call waits before a connection is made for it.
func TestPatience(t *testing.T) {
	for cost, want := range map[time.Duration]time.Duration{
		0: minPatience, 8 * time.Millisecond: minPatience, 70 * time.Millisecond: 35 * time.Millisecond, time.Second: maxPatience,
	} {
		if got := (&pool{cost: cost}).patience(); got != want {
			t.Errorf("%v, if a connection takes %v; want %v", got, cost, want)
		}
	}
}

// TestServerTakesNoMore works with the connections that the server gives.
func TestServerTakesNoMore(t *testing.T) {
	z := startZone(t, zone.Options{MaxAgents: 2})
	b := dial(t, options(z, z.Addr()))
	release := holdQueries(t, z)
	wait := stats(t.Context(), b, 10)
	eventually(t, "a refusal", func() bool {
		b.pool.mu.Lock()
		defer b.pool.mu.Unlock()
		return b.pool.ceiling.most == 2 && b.pool.open == 2
	})
	b.pool.mu.Lock()
	if c := b.pool.ceiling; c.pause < firstPause || c.until.IsZero() {
		t.Errorf("after a refusal there is no pause: %+v", c)
	}
	b.pool.mu.Unlock()
	release()
	if err := errors.Join(wait()...); err != nil {
		t.Error(err)
	}
	_, err := Dial(t.Context(), options(z, z.Addr()))
	wantKind(t, err, remote.Unavailable, "a branch without any connection")
	if wire.CodeOf(err) != wire.CodeLibrary {
		t.Errorf("the cause is %v", err)
	}
}

// TestCeilingEnds tries for more connections again after a while.
func TestCeilingEnds(t *testing.T) {
	z := startZone(t, zone.Options{MaxAgents: 2})
	other := connect(t, z, "bob")
	b := dial(t, options(z, z.Addr()))
	release := holdQueries(t, z)
	wait := stats(t.Context(), b, 3)
	eventually(t, "a refusal", func() bool {
		b.pool.mu.Lock()
		defer b.pool.mu.Unlock()
		return b.pool.ceiling.most == 1
	})
	_ = other.conn.Close()
	eventually(t, "another connection", func() bool { return b.pool.count() == 2 })
	release()
	if err := errors.Join(wait()...); err != nil {
		t.Error(err)
	}
}

// TestDeadConnections ends connections that lie idle: the next calls notice nothing.
func TestDeadConnections(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	release := holdQueries(t, z)
	wait := stats(t.Context(), b, 4)
	eventually(t, "several connections", func() bool { return z.Agents() > 1 })
	release()
	if err := errors.Join(wait()...); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		eventually(t, "the end of all connections", func() bool {
			z.KillAgents() // one may still have been on its way
			return z.Agents() == 0 && dead(b)
		})
		if _, err := b.Mkdir(t.Context(), "/d"); err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a pool that counts right", func() bool {
		b.pool.mu.Lock()
		defer b.pool.mu.Unlock()
		return b.pool.open == len(b.pool.free) && b.pool.dialing == 0 && len(b.pool.busy) == 0
	})
}

// dead tells whether all free connections have ended.
func dead(b *Backend) bool {
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	for _, s := range b.pool.free {
		if s.conn.Alive() {
			return false
		}
	}
	return true
}

// TestKilledInCalls ends all connections while calls are under way and others wait: each
// gets an answer, and the count is right afterwards.
func TestKilledInCalls(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for range 10 {
		release := holdQueries(t, z)
		wait := stats(t.Context(), b, 8)
		eventually(t, "a call", func() bool { return z.Agents() > 0 })
		z.KillAgents()
		release()
		for _, err := range wait() {
			if err != nil && remote.KindOf(err) != remote.Unavailable {
				t.Error(err)
			}
		}
	}
	eventually(t, "a call that succeeds", func() bool { _, err := b.Stat(t.Context(), "/"); return err == nil })
	eventually(t, "a pool that counts right", func() bool {
		b.pool.mu.Lock()
		defer b.pool.mu.Unlock()
		p := b.pool
		return len(p.busy) == 0 && p.dialing == 0 && p.open == len(p.free) && len(p.waiting) == 0
	})
}

// TestIdleConnectionsEnd gives back what nobody uses.
func TestIdleConnectionsEnd(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.IdleTimeout = 30 * time.Millisecond
	b := dial(t, opts)
	eventually(t, "no connection", func() bool { return z.Agents() == 0 && b.pool.count() == 0 })
	stat(t, b, "/")
}

// TestLastConnectionStays keeps the connection used last for longer than the others.
func TestLastConnectionStays(t *testing.T) {
	p := newPool(nil, 4, time.Hour)
	defer p.close()
	ago := func(d time.Duration) *session { return &session{used: time.Now().Add(-d)} }
	p.mu.Lock()
	p.free, p.open = []*session{ago(3 * time.Hour), ago(2 * time.Hour), ago(90 * time.Minute)}, 3
	last := p.free[2]
	p.mu.Unlock()
	if old := p.old(); len(old) != 2 || slices.Contains(old, last) || p.count() != 1 {
		t.Errorf("%d of 3 connections are given back, and %d counted", len(old), p.count())
	}
	last.used = time.Now().Add(-lastLife * time.Hour)
	if old := p.old(); len(old) != 1 || p.count() != 0 {
		t.Errorf("%d connections are given back in the end, and %d counted", len(old), p.count())
	}
}

// TestCancelledWaiter gives up waiting: its connection goes to the next one.
func TestCancelledWaiter(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	opts.MaxConns = 1
	b := dial(t, opts)
	release := holdQueries(t, z)
	first := stats(t.Context(), b, 1)
	eventually(t, "a call", func() bool { return b.pool.busyCount() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	given := stats(ctx, b, 5)
	eventually(t, "five that wait", func() bool { return waiting(b) == 5 })
	last := stats(t.Context(), b, 1)
	eventually(t, "six that wait", func() bool { return waiting(b) == 6 })
	cancel()
	for _, err := range given() {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	release()
	if err := errors.Join(append(first(), last()...)...); err != nil {
		t.Error(err)
	}
}

func (p *pool) busyCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.busy)
}

// TestCloseEndsAll closes with calls under way, calls that wait, and a connection that is
// being made.
func TestCloseEndsAll(t *testing.T) {
	z := startZone(t, zone.Options{MaxAgents: 2})
	b := dial(t, options(z, z.Addr()))
	release := holdQueries(t, z)
	defer release()
	wait := stats(t.Context(), b, 8)
	eventually(t, "two connections", func() bool { return z.Agents() == 2 })
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	for _, err := range wait() {
		wantKind(t, err, remote.BadHandle, "a call on a closed branch")
	}
	if n := b.pool.count(); n != 0 {
		t.Errorf("the pool counts %d connections", n)
	}
	release()
	eventually(t, "no connection", func() bool { return z.Agents() == 0 })
}

// TestWrongPassword tries once.
func TestWrongPassword(t *testing.T) {
	z := startZone(t, zone.Options{})
	opts := options(z, z.Addr())
	asked := 0
	opts.Password = func(context.Context) (remote.Secret, error) { asked++; return remote.NewSecret("Wonderland"), nil }
	_, err := Dial(t.Context(), opts)
	wantKind(t, err, remote.Auth, "a wrong password")
	if z.Logins() != 1 || asked != 1 {
		t.Errorf("%d logins, the source was asked %d times", z.Logins(), asked)
	}
	opts.User = "nobody"
	_, err = Dial(t.Context(), opts)
	wantKind(t, err, remote.Auth, "a user that does not exist")
	if z.Logins() != 2 {
		t.Errorf("%d logins", z.Logins())
	}
}

// TestPasswordChanges changes the password at the server while a branch is mounted.
func TestPasswordChanges(t *testing.T) {
	dir := t.TempDir()
	start := func(address, password string) *zone.Zone {
		z, err := zone.Start(zone.Options{Dir: dir, Addr: address, Policy: wire.PolicyRefuse,
			Accounts: []zone.Account{{Name: "alice", Password: password}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = z.Close() })
		return z
	}
	z := start("", "wonderland")
	opts := options(z, z.Addr())
	var mu sync.Mutex
	password, asked, broken := "wonderland", 0, false
	opts.Password = func(context.Context) (remote.Secret, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if broken {
			return remote.Secret{}, errors.New("the vault is sealed")
		}
		return remote.NewSecret(password), nil
	}
	b := dial(t, opts)
	b.login.pause = 0
	_ = z.Close()
	z = start(z.Addr(), "looking-glass")
	eventually(t, "the end of the connection", func() bool { return dead(b) })

	_, err := b.Stat(t.Context(), "/")
	wantKind(t, err, remote.Auth, "the old password")
	if z.Logins() != 1 || asked != 2 {
		t.Errorf("%d logins, the source was asked %d times", z.Logins(), asked)
	}
	for range 3 {
		_, err = b.Stat(t.Context(), "/")
		wantKind(t, err, remote.Auth, "the old password again")
	}
	if z.Logins() != 1 || asked != 5 {
		t.Errorf("%d logins, the source was asked %d times: a refused password was sent again", z.Logins(), asked)
	}
	b.login.pause = time.Hour
	_, err = b.Stat(t.Context(), "/")
	wantKind(t, err, remote.Auth, "the old password once more")
	if asked != 5 {
		t.Errorf("the source was asked %d times", asked)
	}
	b.login.pause = 0
	mu.Lock()
	password, broken = "looking-glass", true
	mu.Unlock()
	_, err = b.Stat(t.Context(), "/")
	wantKind(t, err, remote.Auth, "a source that fails")
	mu.Lock()
	broken = false
	mu.Unlock()
	stat(t, b, "/")
	if z.Logins() != 2 {
		t.Errorf("%d logins", z.Logins())
	}
}

// TestRefusedWhileOpen has the password changed while a connection lives: that goes on.
func TestRefusedWhileOpen(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	b.login.mu.Lock()
	b.login.secret = remote.NewSecret("changed") // as if the server had another now
	b.login.mu.Unlock()
	release := holdQueries(t, z)
	wait := stats(t.Context(), b, 3)
	eventually(t, "a login", func() bool { return z.Logins() >= 2 })
	release()
	if err := errors.Join(wait()...); err != nil {
		t.Error(err)
	}
}

// TestNobodyListens fails soon.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := startZone(t, zone.Options{})
	opts := options(z, l.Addr().String())
	_ = l.Close()
	_, err = Dial(t.Context(), opts)
	wantKind(t, err, remote.Unavailable, "nobody there")
}
