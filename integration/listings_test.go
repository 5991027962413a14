package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// listed is a server with a tree, seen through the core and by another client.
type listed struct {
	*testing.T
	proxy *remotetest.Proxy
	// dial makes another client, over the proxy or not.
	dial func(address string) remote.Backend
	addr string
	// requests tells how many the server has answered since forget.
	requests func() int
	forget   func()
	// onDisk makes a file of one byte on the server; nil if only requests can.
	onDisk func(path string) error
	// scan tells the server of what was made on its disk.
	scan func() error

	other remote.Backend
	dir   string // of the cache
	store *cache.Store
	fs    *fs.FS
	b     remote.Backend
	ttl   time.Duration
	ahead int

	mu      sync.Mutex
	now, at int    // guarded by mu; listings at once, and the most of them
	gates   []gate // guarded by mu; what listings of directories below the root have to pass
}

// gate lets listings pass when there are enough at once.
type gate struct {
	enough int
	open   chan struct{}
}

func secretOf(text string) remote.SecretSource {
	return func(context.Context) (remote.Secret, error) { return remote.NewSecret(text), nil }
}

// listedShare is a share of an embedded server.
func listedShare(t *testing.T, dialect efss.Dialect) *listed {
	t.Helper()
	server, err := efss.Start(efss.Options{Dir: t.TempDir(), Dialect: dialect,
		Users: []efss.User{{Name: "alice", Password: "wonderland", AppPassword: "app-alice"}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	where, err := url.Parse(server.DAVURL("alice"))
	if err != nil {
		t.Fatal(err)
	}
	l := &listed{T: t, addr: where.Host, ahead: 32,
		requests: func() int { return server.Count("") }, forget: server.ResetRequests,
		onDisk: func(path string) error {
			path = filepath.Join(server.Disk("alice"), path)
			return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644))
		},
		scan: func() error { _, err := server.Scan("alice"); return err }}
	l.dial = func(address string) remote.Backend {
		u := *where
		u.Host = address
		b, err := webdav.Dial(t.Context(), webdav.Options{URL: &u, User: "alice", Password: secretOf("app-alice"), MaxConns: 32})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l.begin()
	return l
}

// listedZone is a collection of an embedded zone.
func listedZone(t *testing.T) *listed {
	t.Helper()
	z, err := zone.Start(zone.Options{Dir: t.TempDir(), Policy: wire.PolicyRefuse, Accounts: []zone.Account{{Name: "alice", Password: "wonderland"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = z.Close() })
	l := &listed{T: t, addr: z.Addr(), ahead: 3, forget: z.ResetCalls}
	l.requests = func() (n int) {
		for _, calls := range z.Calls() {
			n += calls
		}
		return n
	}
	l.dial = func(address string) remote.Backend {
		host, text, err := net.SplitHostPort(address)
		port, _ := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		b, err := irods.Dial(t.Context(), irods.Options{Host: host, Port: port, User: "alice", Zone: z.Name(), Root: z.Home("alice"), Password: secretOf("wonderland")})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l.begin()
	return l
}

func (l *listed) begin() {
	l.Helper()
	l.proxy = remotetest.NewProxy(l, l.addr)
	l.other = l.dial(l.addr)
	l.Cleanup(func() { _ = l.other.Close() })
	l.dir, l.ttl = filepath.Join(l.TempDir(), "cache"), time.Hour
}

// plant makes dirs directories with files files each, on the server's disk if it can.
func (l *listed) plant(dirs, files int) {
	l.Helper()
	if l.onDisk == nil {
		l.plantByRequests(dirs, files)
		return
	}
	for i := range dirs * files {
		if err := l.onDisk(fmt.Sprintf("/dir%03d/file%03d", i/files, i%files)); err != nil {
			l.Fatal(err)
		}
	}
	if err := l.scan(); err != nil {
		l.Fatal(err)
	}
}

func (l *listed) plantByRequests(dirs, files int) {
	l.Helper()
	work := make(chan int)
	var planters sync.WaitGroup
	for range 4 {
		planters.Go(func() {
			for i := range work {
				dir := fmt.Sprintf("/dir%03d", i)
				if _, err := l.other.Mkdir(l.Context(), dir); err != nil {
					l.Error(err)
				}
				for j := range files {
					l.put(fmt.Sprintf("%s/file%03d", dir, j), "x")
				}
			}
		})
	}
	for i := range dirs {
		work <- i
	}
	close(work)
	planters.Wait()
}

// put is a change made elsewhere.
func (l *listed) put(path, content string) {
	l.Helper()
	if _, err := l.other.Put(l.Context(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{}); err != nil {
		l.Error(err)
	}
}

// mount begins to look at the tree, with what is in the cache.
func (l *listed) mount() {
	l.Helper()
	var err error
	if l.store, err = cache.Open(l.dir, cache.Options{Size: 64 << 20}); err != nil {
		l.Fatal(err)
	}
	l.b = remote.Intercept(l.dial(l.proxy.Addr()), l.around)
	l.fs, err = fs.New(fs.Options{StageDir: l.TempDir(), ParkDir: l.TempDir()}, []fs.Branch{{
		Prefix: "/a", Backend: l.b, AttrTTL: l.ttl, DirTTL: l.ttl, NegTTL: l.ttl, Tree: l.store.Tree("a"), Listings: l.ahead,
	}})
	if err != nil {
		l.Fatal(err)
	}
}

func (l *listed) around(ctx context.Context, c *remote.Call, next remote.Next) error {
	if c.Op != remote.OpList {
		return next(ctx)
	}
	passed := l.begun(c.Path)
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.now--
	}()
	select {
	case <-passed:
	case <-time.After(longest):
		l.Errorf("there are not enough listings at once: %s waits", c.Path)
	}
	return next(ctx)
}

// begun counts a listing that begins, and returns the gate that it has to pass.
func (l *listed) begun(path string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	l.at = max(l.at, l.now)
	if path == "/" || len(l.gates) == 0 {
		return opened
	}
	g := l.gates[0]
	if l.now >= g.enough {
		close(g.open)
		l.gates = l.gates[1:]
	}
	return g.open
}

// opened is the way where there is no gate.
var opened = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (l *listed) unmount() {
	l.Helper()
	for _, err := range []error{l.fs.Close(context.Background()), l.b.Close(), l.store.Close()} {
		if err != nil {
			l.Error(err)
		}
	}
}

// find walks the tree, as find -ls does, and returns the paths.
func (l *listed) find(path string) (all []string) {
	l.Helper()
	d, err := l.fs.OpenDir(l.Context(), path)
	if err != nil {
		l.Fatal(err)
	}
	defer d.Close()
	var dirs []string
	for {
		e, err := d.Next(l.Context())
		if err == io.EOF {
			break
		} else if err != nil {
			l.Fatal(err)
		}
		name := remote.Join(path, e.Name)
		if a, err := l.fs.Stat(l.Context(), name); err != nil || a.Size != e.Attr.Size {
			l.Errorf("%s: %+v, %v", name, a, err)
		}
		all = append(all, fmt.Sprint(name, " ", e.Attr.Size))
		if e.Attr.Type == remote.Dir {
			dirs = append(dirs, name)
		}
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		all = append(all, l.find(dir)...)
	}
	return all
}

// within fails if do makes more requests than most, in as much time as attributes live.
func (l *listed) within(most int, what string, do func()) {
	l.Helper()
	l.forget()
	start := time.Now()
	do()
	most *= 1 + int(time.Since(start)/l.ttl)
	if n := l.requests(); n > most {
		l.Errorf("%s: %d requests, want %d at most", what, n, most)
	} else {
		l.Logf("%s: %d requests", what, n)
	}
}

// expire waits until what is known is too old.
func (l *listed) expire() { time.Sleep(l.ttl + l.ttl/10) }

// TestFindAgain looks at a tree again when the time of its attributes is over: a handful
// of requests prove it, and changes made elsewhere are seen; after a remount, too.
func TestFindAgain(t *testing.T) {
	t.Parallel()
	dirs := full(50, 250) // of 40 files
	for name, c := range map[string]struct {
		start       func(*testing.T) *listed
		dirs, files int
		most        int           // requests for an unchanged tree
		settle      time.Duration // after which the server knows what has changed
		again       int           // requests more, because what was made just before the mark is told again
	}{
		"nextcloud": {func(t *testing.T) *listed { return listedShare(t, efss.Nextcloud) }, dirs, 40, 3, 0, 0},
		"opencloud": {func(t *testing.T) *listed { return listedShare(t, efss.OpenCloud) }, 20, 20, 3, 0, 0},
		// Several calls in one round trip tell what has changed, whatever is in the tree.
		"zone": {listedZone, 20, 20, 10, 3 * time.Second, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is waiting
			l := c.start(t)
			l.plant(c.dirs, c.files)
			want := c.dirs * (c.files + 1)
			time.Sleep(c.settle)
			l.mount()
			if n := len(l.find("/a")); n != want {
				t.Fatalf("%d names, want %d", n, want)
			}
			l.unmount()
			l.ttl = time.Second
			for round := range 2 {
				l.mount()
				time.Sleep(c.settle)
				l.expire()
				// And what was changed in the last round.
				l.within(c.most+20+c.again, "mounted again", func() {
					if n := len(l.find("/a")); n != want {
						t.Errorf("%d names, want %d", n, want)
					}
				})
				time.Sleep(c.settle)
				c.again = 0
				l.find("/a") // what was changed in the last round
				l.expire()
				l.within(c.most, "too old", func() { l.find("/a") })
				l.put("/dir003/file001", fmt.Sprint("other content, round ", round))
				l.put(fmt.Sprint("/dir005/new", round), "new")
				want++
				l.expire()
				l.within(c.most+20, "changed", func() {
					all := l.find("/a")
					if len(all) != want || !slices.Contains(all, "/a/dir003/file001 22") || !slices.Contains(all, fmt.Sprint("/a/dir005/new", round, " 3")) {
						t.Errorf("the changes are not seen; %d names, want %d", len(all), want)
					}
				})
				l.unmount()
			}
		})
	}
}

// TestListingsOverlap walks a tree whose listings are answered only when there are enough
// of them: they are asked for together.
func TestListingsOverlap(t *testing.T) {
	l := listedShare(t, efss.Nextcloud)
	const dirs, files = 60, 5
	l.plant(dirs, files)
	for _, enough := range []int{1, 1, 1, 1, 16} { // it takes some to see that it is a walk
		l.gates = append(l.gates, gate{enough, make(chan struct{})})
	}
	l.mount()
	defer l.unmount()
	if n := len(l.find("/a")); n != dirs*(files+1) {
		t.Errorf("%d names", n)
	}
	if len(l.gates) > 0 {
		t.Errorf("there were %d listings at once at most", l.at)
	}
}
