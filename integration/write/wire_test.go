package write_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// trouble is how a server treats uploads for some time.
type trouble struct {
	name  string
	share func() *efss.Fault // nil: not for shares
	zone  func() *zone.Fault // nil: not for zones
	// stalls: the server keeps the request and does not answer, until the trouble is over.
	stalls bool
	// parks: what was refused so is not tried again by itself, and shows as parked. mayPark:
	// that is as good as trying again.
	parks, mayPark bool
	// mostHits is how often the server may be asked while it refuses. 0: there is no limit.
	mostHits int64
	// carriesOut: the server does what it was asked.
	carriesOut bool
}

// answer is a fault of a share that answers with a status.
func answer(status int) func() *efss.Fault {
	return func() *efss.Fault { return &efss.Fault{Status: status, Body: "<html>no</html>"} }
}

// code is a fault of a zone that answers with a code.
func code(n int) func() *zone.Fault {
	return func() *zone.Fault { return &zone.Fault{Code: n} }
}

// troubles are all that may go wrong with uploads.
func troubles() []trouble {
	later := http.Header{"Retry-After": {"1"}}
	return []trouble{
		{name: "reset", share: func() *efss.Fault { return &efss.Fault{Abort: true} }, zone: func() *zone.Fault { return &zone.Fault{Kill: true} }},
		{name: "cut request", share: func() *efss.Fault { return &efss.Fault{CutRequest: true, RequestAt: 700} }, mayPark: true},
		{name: "stall", stalls: true, share: func() *efss.Fault { return &efss.Fault{Abort: true} }, zone: func() *zone.Fault { return &zone.Fault{Kill: true} }},
		{name: "500", share: answer(500)},
		{name: "502", share: answer(502)},
		{name: "503", share: func() *efss.Fault { return &efss.Fault{Status: 503, Header: later} }},
		{name: "423", share: answer(423), zone: code(wire.CodeHierarchy)},
		{name: "429", share: func() *efss.Fault { return &efss.Fault{Status: 429, Header: later} }},
		// A wrong password is punished with delays for all behind one address.
		{name: "401", share: answer(401), mostHits: 20},
		{name: "403", share: answer(403), zone: code(wire.CodeNoAccess), parks: true},
		{name: "404", share: answer(404), mayPark: true},
		{name: "409", share: answer(409), mayPark: true},
		{name: "412", share: answer(412), mayPark: true},
		{name: "413", share: answer(413), parks: true},
		{name: "507", share: answer(507), zone: code(wire.CodeQuota)},
		{name: "lost reply", share: func() *efss.Fault { return &efss.Fault{LoseReply: true} },
			zone: func() *zone.Fault { return &zone.Fault{LoseReply: true} }, carriesOut: true},
		{name: "truncated reply", share: func() *efss.Fault { return &efss.Fault{LengthDelta: 10} }, carriesOut: true},
		{name: "nonsense", zone: func() *zone.Fault { return &zone.Fault{Raw: []byte("\x00\x00\x00\x09<nothing>")} }},
		{name: "catalog without connections", zone: code(wire.CodeLibrary)},
		{name: "catalog error", zone: code(wire.CodeCatalogSQL), mayPark: true},
		{name: "resource down", zone: code(wire.CodeResourceDown)},
	}
}

// gate lets a trouble come and go, and counts whom it meets.
type gate struct {
	on   atomic.Bool
	hits atomic.Int64
	over chan struct{} // closed by end
}

func newGate() *gate { return &gate{over: make(chan struct{})} }

// end ends the trouble for good.
func (g *gate) end() {
	if g.on.Swap(false) {
		close(g.over)
	}
}

// pass tells whether a request is met.
func (g *gate) pass() bool {
	if g.on.Load() {
		g.hits.Add(1)
		return true
	}
	return false
}

// uploadCalls are the calls by which objects are written.
func uploadCalls(api int) bool {
	switch api {
	case wire.APIDataObjCreate, wire.APIDataObjOpen, wire.APIDataObjPut, wire.APIDataObjWrite, wire.APIDataObjClose, wire.APIReplicaClose:
		return true
	}
	return false
}

// install puts a trouble on a server, behind a gate.
func (tr *trouble) install(s *server) *gate {
	g := newGate()
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			if uploadCalls(c.API) && g.pass() {
				tr.hold(g)
				return tr.zone()
			}
			return nil
		})
		return g
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		switch r.Method {
		case http.MethodPut, http.MethodPost, http.MethodPatch, "MOVE", "MKCOL":
			if g.pass() {
				tr.hold(g)
				return tr.share()
			}
		}
		return nil
	})
	return g
}

// hold keeps a request if that is the trouble.
func (tr *trouble) hold(g *gate) {
	if tr.stalls {
		<-g.over
	}
}

// TestWireFaults has uploads of all sorts meet each trouble. Meanwhile the mount shows what
// was written, and status tells of it; afterwards it is on the server, once and right.
func TestWireFaults(t *testing.T) {
	for _, kind := range kinds() {
		for _, tr := range troubles() {
			if kind == "zone" && tr.zone == nil || kind != "zone" && tr.share == nil {
				continue
			}
			t.Run(kind+"/"+tr.name, func(t *testing.T) {
				t.Parallel()
				tr.test(t, startServer(t, kind))
			})
		}
	}
}

// mounted mounts a server. What is refused for its credentials is not tried again until they
// change: renew does that.
func (tr *trouble) mounted(t *testing.T, s *server) (m *mount, renew func()) {
	t.Helper()
	if tr.mostHits == 0 {
		return s.mounted(t, cacheDir(t)), func() {}
	}
	file := filepath.Join(t.TempDir(), "token")
	use := func(token string) {
		err := os.WriteFile(file+".new", []byte(token), 0o600)
		if err = errors.Join(err, os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	use(secret)
	return s.mounted(t, cacheDir(t), "--token-file=b="+file), func() { use(newToken) }
}

func (tr *trouble) test(t *testing.T, s *server) {
	m, renew := tr.mounted(t, s)
	want := expect{"d": nil, "d/small": book(1, 1000), "large": book(2, 6<<20), "kept": book(3, 100)}
	m.mkdir(t, "d")
	for _, name := range []string{"d/small", "large", "kept"} {
		m.write(t, name, want[name])
	}
	m.flush(t)
	want.onServer(t, s)

	must(t, "pause", m.Dir)
	changes := expect{"d/small": book(11, 3000), "large": append(book(2, 6<<20), book(12, 100_000)...), "d/new": book(13, 5000), "new large": book(14, 7<<20)}
	want = want.with(changes)
	for _, name := range []string{"d/small", "d/new", "new large"} {
		m.write(t, name, want[name])
	}
	m.appendTo(t, "large", book(12, 100_000))
	g := tr.install(s)
	g.on.Store(true)
	t.Cleanup(g.end)
	must(t, "resume", m.Dir)
	await(t, "the trouble", func() bool { return g.hits.Load() > 0 })
	tr.during(t, m, want)
	if hits := g.hits.Load(); tr.mostHits > 0 && hits > tr.mostHits {
		t.Errorf("the server was asked %d times", hits)
	}
	g.end()
	renew()
	retry := func() {
		if out, code := command(t, "retry", "--all", "--mount="+m.Dir); code != 0 {
			t.Errorf("retry: exit code %d\n%s", code, out)
		}
	}
	retry()
	if tr.parks {
		await(t, "all that met the trouble to have ended", func() bool {
			now := m.status(t)
			if now.Parked > 0 { // its attempt has only just ended
				retry()
			}
			return now.Pending+now.Parked == 0
		})
	}
	m.flush(t)
	want.inMount(t, m)
	if now := m.status(t); now.Pending+now.Parked != 0 || now.Branches[0].ConflictCount != 0 {
		t.Errorf("after all is stored: %+v", now)
	}
	m.MustUnmount(t)
	want.onServer(t, s)
}

// during looks at the mount while the server refuses uploads.
func (tr *trouble) during(t *testing.T, m *mount, want expect) {
	t.Helper()
	if tr.parks {
		await(t, "parking", func() bool { return m.status(t).Parked > 0 })
	}
	now := m.status(t)
	if !tr.carriesOut && now.Pending+now.Parked < 1 {
		t.Errorf("status shows nothing: %+v", now)
	}
	for _, i := range now.Items {
		if i.State == control.ItemParked && i.Cause == "" {
			t.Errorf("parked without a cause: %+v", i)
		}
	}
	if now.Parked > 0 && !tr.parks && !tr.mayPark {
		for _, i := range now.Items {
			t.Errorf("parked by what passes: %+v", i)
		}
	}
	names := []string{"d/small", "d/new", "new large"}
	if m.s.zone == nil {
		names = append(names, "large") // a zone that refuses to open others has not what it is based on
	}
	for _, name := range names {
		if got, err := os.ReadFile(m.path(name)); err != nil || !bytes.Equal(got, want[name]) {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(want[name]), err)
		}
	}
}

// TestWireParentGone removes the directory on the server while files in it wait: it is made
// again for them.
func TestWireParentGone(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := s.mounted(t, cacheDir(t))
		m.mkdir(t, "d")
		m.mkdir(t, "d/e")
		m.write(t, "d/old", book(1, 1000))
		m.flush(t)
		must(t, "pause", m.Dir)
		m.write(t, "d/e/new", book(2, 3000))
		m.write(t, "d/e/large", book(3, 6<<20))
		other := s.mounted(t, cacheDir(t))
		if err := os.RemoveAll(other.path("d")); err != nil {
			t.Fatal(err)
		}
		other.MustUnmount(t)
		expect{}.onServer(t, s)
		must(t, "resume", m.Dir)
		m.flush(t)
		m.MustUnmount(t)
		expect{"d": nil, "d/e": nil, "d/e/new": book(2, 3000), "d/e/large": book(3, 6<<20)}.onServer(t, s)
	})
}

// TestWireIntermediate kills the process while the zone is amid a call of its upload: the
// object stays locked, with a replica that is neither old nor new, until the zone notices. The
// next mount shows the new content all the time, and stores it when it can.
func TestWireIntermediate(t *testing.T) {
	t.Parallel()
	s := startServer(t, "zone")
	cache := cacheDir(t)
	m := s.mounted(t, cache)
	m.write(t, "f", book(1, 6<<20))
	m.write(t, "other", book(3, 1000))
	m.flush(t)
	d := &door{opened: make(chan struct{})}
	t.Cleanup(d.open)
	s.zone.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API == wire.APIDataObjWrite && d.first() {
			d.wait()
		}
		return nil
	})
	want := expect{"f": book(2, 7<<20), "other": book(3, 1000)}
	m.write(t, "f", want["f"])
	await(t, "the upload", d.entered)
	m.Kill()
	m = s.mounted(t, cache)
	await(t, "a refused attempt", func() bool {
		items := find(m.status(t), "f")
		if len(items) == 0 || items[0].State == control.ItemParked {
			t.Fatalf("status of an object that is locked: %+v", items)
		}
		return items[0].Tries > 0
	})
	want.inMount(t, m)
	d.open()
	m.flush(t)
	m.MustUnmount(t)
	want.onServer(t, s)
}
