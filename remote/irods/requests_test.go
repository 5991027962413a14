package irods

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// many makes n objects with two replicas each in alice's home, in few round trips.
func many(t *testing.T, z *zone.Zone, n int) {
	t.Helper()
	alice := connect(t, z, "alice")
	for from := 0; from < n; from += 100 {
		var calls []*wire.Call
		for i := from; i < min(from+100, n); i++ {
			path := fmt.Sprintf("%s/object-%05d", z.Home("alice"), i)
			calls = append(calls,
				&wire.Call{API: wire.APIDataObjPut, In: input(path, 0, wire.Pair{Key: wire.KwDataIncluded}), Data: []byte("x")},
				&wire.Call{API: wire.APIDataObjRepl, In: input(path, 0, on("resc2"))})
		}
		results, err := alice.conn.Pipeline(t.Context(), calls)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
}

// wantCalls compares the calls that f makes with what is documented.
func wantCalls(t *testing.T, z *zone.Zone, what string, want map[string]int, f func()) {
	t.Helper()
	if got := counted(z, f); !maps.Equal(got, want) {
		t.Errorf("%s takes the calls %v, want %v", what, got, want)
	}
}

// TestListingRequests counts the calls of a cold listing of 1,000 objects with two
// replicas each: by their owner and by somebody else.
func TestListingRequests(t *testing.T) {
	z := startZone(t, zone.Options{})
	many(t, z, 1000)
	root, alice := project(t, z)
	list := func(opts Options) func() {
		b := dial(t, opts)
		return func() {
			if got := len(names(t, b, "/")); got != 1000 {
				t.Errorf("%d entries", got)
			}
		}
	}
	own := list(options(z, z.Addr()))
	wantCalls(t, z, "a listing of our own", map[string]int{"query": 4}, own)
	for i := range 1000 {
		alice.grant("read", "bob", fmt.Sprintf("%s/object-%05d", root, i))
	}
	others := list(bobs(z, root))
	wantCalls(t, z, "a listing of somebody else's", map[string]int{"query": 4}, others)
}

// TestPages lists more rows than an answer has.
func TestPages(t *testing.T) {
	z := startZone(t, zone.Options{})
	const n = pageRows + 100
	many(t, z, n)
	b := dial(t, options(z, z.Addr()))
	var all map[string]remote.Entry
	calls := counted(z, func() { all = names(t, b, "/") })
	if len(all) != n {
		t.Errorf("%d entries of %d", len(all), n)
	}
	for _, e := range all {
		if e.Size != 1 || !e.Access.Can(remote.AccessWrite) || e.Access&remote.AccessKnown == 0 {
			t.Fatalf("%+v", e)
		}
	}
	if want := 4 + 3 + (2*n)/pageRows; calls["query"] != want {
		t.Errorf("%v calls, want %d", calls, want)
	}
}

// TestRequests counts the calls of what programs do most, with a server near by. Those of
// a line go out together, so that they cost one round trip.
func TestRequests(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	ctx := t.Context()
	b.pace.saw(time.Microsecond) // however slow this machine is
	const look = 4               // object, collection, and the marks of both
	wantCalls(t, z, "Stat", map[string]int{"query": look}, func() { stat(t, b, "/") })
	var e remote.Entry
	wantCalls(t, z, "a small new file", map[string]int{"query": look + look, "open": 1, "write": 1, "close": 1}, func() {
		e = put(t, b, "/f", "content", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	})
	wantCalls(t, z, "the read of a small file", map[string]int{"open": 1, "read": 1, "close": 1}, func() {
		if _, err := b.ReadAt(ctx, remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, make([]byte, e.Size), 0); err != nil {
			t.Error(err)
		}
	})
	wantCalls(t, z, "a small overwrite", map[string]int{"query": look + look, "put": 1}, func() {
		e = put(t, b, "/f", "other content", remote.PutOptions{Cond: remote.Cond{Version: e.Version}})
	})
	old := time.Unix(1e9, 0)
	wantCalls(t, z, "a small new file with a time", map[string]int{"query": look + look, "open": 1, "write": 1, "close": 1, "touch": 1}, func() {
		put(t, b, "/timed", "content", remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &old}})
	})
	wantCalls(t, z, "an empty new file", map[string]int{"query": look + look, "open": 1, "close": 1}, func() {
		put(t, b, "/empty", "", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	})
	wantCalls(t, z, "Mkdir", map[string]int{"query": look, "create collection": 1}, func() {
		if _, err := b.Mkdir(ctx, "/d"); err != nil {
			t.Error(err)
		}
	})
	wantCalls(t, z, "Remove", map[string]int{"query": look, "unlink": 1}, func() {
		if err := b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
			t.Error(err)
		}
	})
	wantCalls(t, z, "Close and a new connection", map[string]int{}, func() { _ = b.Close() })
}

// TestRequestsFar counts them with a server far away, where one call is faster than three.
func TestRequestsFar(t *testing.T) {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	proxy.SetLatency(15 * time.Millisecond)
	b := dial(t, options(z, proxy.Addr()))
	var e remote.Entry
	wantCalls(t, z, "a small new file", map[string]int{"query": 4, "put": 1}, func() {
		e = put(t, b, "/f", "content", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	})
	wantCalls(t, z, "the read of a small file", map[string]int{"open": 1, "read": 1, "close": 1}, func() {
		got := make([]byte, e.Size)
		_, err := b.ReadAt(context.Background(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, got, 0)
		if err != nil || !strings.EqualFold(string(got), "content") {
			t.Errorf("%q, %v", got, err)
		}
	})
	wantCalls(t, z, "a small overwrite", map[string]int{"query": 8, "put": 1}, func() {
		e = put(t, b, "/f", "other", remote.PutOptions{Cond: remote.Cond{Version: e.Version}})
	})
	old := time.Unix(1e9, 0)
	wantCalls(t, z, "a small new file with a time", map[string]int{"query": 8, "put": 1, "touch": 1}, func() {
		e = put(t, b, "/timed", "content", remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &old}})
	})
	if !e.MTime.Equal(old) {
		t.Errorf("the time is %v", e.MTime)
	}
}

// TestRenameRequests counts the calls of renames.
func TestRenameRequests(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d")
	put(t, b, "/f", "content", fresh)
	put(t, b, "/g", "content", fresh)
	rename := func(from, to string) func() {
		return func() {
			if err := b.Rename(t.Context(), from, to, remote.RenameOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
	wantCalls(t, z, "a rename in its directory", map[string]int{"query": 8, "rename": 1}, rename("/f", "/h"))
	wantCalls(t, z, "a rename over another file", map[string]int{"query": 8, "rename": 1}, rename("/h", "/g"))
	wantCalls(t, z, "a rename to another directory", map[string]int{"query": 16, "rename": 1, "touch": 1}, rename("/g", "/d/g"))
}

// TestListingsShare lists many collections at once on one connection, which carries
// several listings at a time.
func TestListingsShare(t *testing.T) {
	z, b, _ := onOne(t, 0)
	const n = laneDepth
	for i := range n {
		dir := fmt.Sprintf("/d%d", i)
		mkdir(t, b, dir, dir+"/sub")
		put(t, b, dir+"/f", "content", fresh)
		if _, err := b.SetAttr(t.Context(), dir+"/sub", remote.Attrs{Mode: ptr(uint32(0o750))}); err != nil {
			t.Fatal(err)
		}
	}
	g := newGate(z, wire.APIGenQuery, 0)
	var tasks sync.WaitGroup
	for i := range n {
		tasks.Go(func() {
			dir := fmt.Sprintf("/d%d", i)
			got := names(t, b, dir)
			if len(got) != 2 || got[dir+"/sub"].Mode != 0o750 || got[dir+"/f"].Size != 7 {
				t.Errorf("directory %d: %+v", i, got)
			}
		})
	}
	eventually(t, "the sharing of a connection", func() bool { return onTheirWay(b) == n })
	g.open(all)
	tasks.Wait()
	if c := b.pool.count(); c != 1 {
		t.Errorf("%d connections", c)
	}
	wantCalls(t, z, "a listing with a directory in it", map[string]int{"query": 4}, func() { names(t, b, "/d0") })
	mkdir(t, b, "/empty")
	wantCalls(t, z, "a listing of nothing", map[string]int{"query": 4 + 3 + 4}, func() { names(t, b, "/empty") })
}
