package webdav_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// fate is what comes of an upload.
type fate struct {
	kind   remote.Kind // of the error, if there is one
	ok     bool        // no error
	unsure bool
	after  time.Duration // Error.RetryAfter
}

// writeFault is something that goes wrong with a request of an upload.
type writeFault struct {
	name  string
	fault efss.Fault
	fate  fate // at a request that does not decide
	// done: the request is carried out. lost: whoever sent it cannot know.
	done, lost bool
}

func status(code int, header ...string) efss.Fault {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return efss.Fault{Status: code, Header: h}
}

func quota(text string) efss.Fault {
	f := status(http.StatusRequestEntityTooLarge)
	f.Body = text
	return f
}

// writeFaults are the faults of every request.
func writeFaults() []writeFault {
	now := time.Now().UTC().Truncate(time.Second)
	date := []string{"Date", now.Format(http.TimeFormat), "Retry-After", now.Add(90 * time.Second).Format(http.TimeFormat)}
	return []writeFault{
		{name: "reset", fault: efss.Fault{Abort: true}, fate: fate{kind: remote.Unavailable}, lost: true},
		{name: "stall", fault: efss.Fault{Hang: true}, fate: fate{kind: remote.Unavailable, unsure: true}, lost: true},
		{name: "lost answer", fault: efss.Fault{LoseReply: true}, fate: fate{kind: remote.Unavailable}, done: true, lost: true},
		{name: "truncated answer", fault: efss.Fault{LengthDelta: 10}, fate: fate{ok: true}, done: true},
		{name: "500", fault: status(500), fate: fate{kind: remote.Unavailable}},
		{name: "502", fault: status(502), fate: fate{kind: remote.Unavailable}, lost: true},
		{name: "503", fault: status(503, "Retry-After", "7"), fate: fate{kind: remote.Unavailable, after: 7 * time.Second}},
		{name: "503 date", fault: status(503, date...), fate: fate{kind: remote.Unavailable, after: 90 * time.Second}},
		{name: "401", fault: status(401), fate: fate{kind: remote.Auth}},
		{name: "403", fault: status(403), fate: fate{kind: remote.Permission}},
		{name: "404", fault: status(404), fate: fate{kind: remote.Unavailable}}, // the parent is there
		{name: "409", fault: status(409), fate: fate{kind: remote.Unavailable}}, // the same
		{name: "413", fault: quota("<html>Request Entity Too Large</html>"), fate: fate{kind: remote.TooLarge}},
		{name: "413 quota", fault: quota("<html>Your quota is exceeded</html>"), fate: fate{kind: remote.NoSpace}},
		{name: "423", fault: status(423), fate: fate{kind: remote.Locked}},
		{name: "429", fault: status(429, "Retry-After", "3"), fate: fate{kind: remote.Unavailable, after: 3 * time.Second}},
		{name: "507", fault: status(507), fate: fate{kind: remote.NoSpace}},
	}
}

// writePoint is a request of an upload that a fault can hit.
type writePoint struct {
	dialect efss.Dialect
	defers  bool // tus without a length
	grows   bool
	over    bool
	method  string
	decides bool            // it makes the file
	fates   map[string]fate // where they differ
}

func (p *writePoint) String() string {
	text := fmt.Sprintf("%v/%s", p.dialect, p.method)
	if p.over {
		text += " over"
	}
	if p.grows {
		text += " growing"
	}
	return text
}

// writePoints are all requests of all ways of uploading.
func writePoints() []writePoint {
	found := map[string]fate{"lost answer": {ok: true}} // the adapter finds out by itself
	// Of a body that still waits, the server cannot have got the end.
	early := map[string]fate{"reset": {kind: remote.Unavailable}, "502": {kind: remote.Unavailable}}
	var all []writePoint
	for _, grows := range []bool{false, true} {
		all = append(all,
			writePoint{dialect: efss.Nextcloud, grows: grows, over: true, method: "MKCOL"},
			writePoint{dialect: efss.Nextcloud, grows: grows, over: true, method: "PUT"},
			writePoint{dialect: efss.Nextcloud, grows: grows, over: true, method: "MOVE", decides: true, fates: found},
			writePoint{dialect: efss.Nextcloud, grows: grows, method: "MOVE", decides: true, fates: found},
			writePoint{dialect: efss.OpenCloud, defers: true, grows: grows, over: true, method: "POST"},
			writePoint{dialect: efss.OpenCloud, defers: true, grows: grows, over: true, method: "PATCH", decides: true, fates: found},
			writePoint{dialect: efss.ModDAV, grows: grows, method: "MOVE", decides: true},
			writePoint{dialect: efss.Generic, grows: grows, over: true, method: "PUT"},
			writePoint{dialect: efss.Generic, grows: grows, over: true, method: "MOVE", decides: true},
		)
	}
	return append(all,
		writePoint{dialect: efss.Nextcloud, method: "PUT", decides: true}, // a small new file
		writePoint{dialect: efss.ModDAV, method: "PUT", decides: true},
		writePoint{dialect: efss.ModDAV, over: true, method: "PUT", decides: true},
		writePoint{dialect: efss.ModDAV, over: true, grows: true, method: "PUT", decides: true, fates: early},
		writePoint{dialect: efss.ModDAV, grows: true, method: "PUT"},
	)
}

// want returns what is to come of f at p.
func (p *writePoint) want(f *writeFault) fate {
	want := f.fate
	if special, ok := p.fates[f.name]; ok {
		want = special
	} else if p.decides && f.lost {
		want.unsure = true
	}
	return want
}

// faulted is one upload under one fault.
type faulted struct {
	*testing.T
	*site
	point *writePoint
	fault *writeFault
	old   []byte
	data  []byte
	opts  remote.PutOptions
}

// upload runs the upload, and fails if the fault did not hit it. On a machine that stands still
// the watchdog may end what comes before the fault; it is given more time then.
func (f *faulted) upload() error {
	for patience := time.Second; ; patience *= 8 {
		hits, err := f.try(patience)
		if hits > 0 {
			return err
		}
		if !f.fault.fault.Hang || patience > time.Minute {
			f.Fatalf("the fault hit nothing, and the error is %v", err)
		}
	}
}

// try runs the upload and counts how often the fault hit.
func (f *faulted) try(patience time.Duration) (hits int64, err error) {
	var count atomic.Int64
	f.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method != f.point.method {
			return nil
		}
		count.Add(1)
		fault := f.fault.fault
		return &fault
	})
	defer f.SetFaults(nil)
	b := remote.Backend(f.b)
	if f.fault.fault.Hang {
		b = remote.Watchdog(b, patience)
	}
	if f.point.grows {
		err = f.grow(b)
	} else {
		_, err = b.Put(f.Context(), "/d/f", remotetest.Bytes(f.data), f.opts)
	}
	return count.Load(), err
}

// grow has a second half come when the first one is used up, or the upload has failed.
func (f *faulted) grow(b remote.Backend) error {
	p, _ := remote.As[remote.GrowingPutter](b)
	g := beginGrowing(f.Context(), p, "/d/f", f.opts)
	half := len(f.data) / 2
	g.Grow(f.data[:half])
	eventually(f.T, "an end of the upload, or of what there is to upload", func() bool {
		select {
		case <-g.done:
			return true
		default:
			return g.Wanted() >= int64(half)
		}
	})
	g.Grow(f.data[half:])
	g.End(remote.Attrs{})
	return g.result(f.T)
}

// check compares the error, and what is there afterwards.
func (f *faulted) check(err error) {
	want := f.point.want(f.fault)
	var e *remote.Error
	switch {
	case want.ok && err != nil, !want.ok && !errors.As(err, &e):
		f.Fatalf("the error is %v", err)
	case !want.ok && (e.Kind != want.kind || e.Unsure != want.unsure || (e.RetryAfter-want.after).Abs() > time.Second):
		f.Errorf("the error is %v: kind %q, unsure %v, after %v, want %+v", err, e.Kind, e.Unsure, e.RetryAfter, want)
	}
	got := f.onDisk(f.T, "d/f")
	isNew := bytes.Equal(got, f.data)
	if !isNew && !bytes.Equal(got, f.old) || isNew != (want.ok || f.fault.done && f.point.decides) {
		f.Errorf("there are %d bytes (the new ones: %v) after %v", len(got), isNew, err)
	}
	if strings.HasPrefix(f.fault.name, "401") {
		return // this login will not be used again, to clean up either
	}
	f.cleanSoon(f.T)
}

// TestWriteFaults has every fault hit every request of every way of uploading.
func TestWriteFaults(t *testing.T) {
	for _, point := range writePoints() {
		for _, fault := range writeFaults() {
			t.Run(point.String()+"/"+fault.name, func(t *testing.T) {
				t.Parallel()
				s := newSiteWith(t, efss.Options{Dialect: point.dialect, DeferLength: point.defers})
				s.b.SetPatience(50*time.Millisecond, 0)
				f := &faulted{T: t, site: s, point: &point, fault: &fault, data: remotetest.Pattern(200_000, 3)}
				if point.decides && (point.method == "PATCH" || point.method == "PUT" && !point.grows) {
					f.data = f.data[:1000] // it is on its way before the server can do anything
				} else if point.dialect == efss.Nextcloud || point.dialect == efss.ModDAV {
					s.b.SetChunk(70_000)
				}
				if _, err := s.b.Mkdir(t.Context(), "/d"); err != nil {
					t.Fatal(err)
				}
				f.opts.Cond.NotExist = true
				if point.over {
					f.old = []byte("the old content")
					e := s.put(t, "/d/f", string(f.old), remote.PutOptions{})
					f.opts.Cond = remote.Cond{Version: e.Version, Provisional: e.Provisional}
				}
				f.check(f.upload())
			})
		}
	}
}

// TestParentGone: somebody removes the directory while a file is sent into it.
func TestParentGone(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.ModDAV, efss.Generic} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSiteWith(t, efss.Options{Dialect: d, DeferLength: true})
			s.b.SetPatience(time.Second, 0)
			s.b.SetChunk(70_000)
			if _, err := s.b.Mkdir(t.Context(), "/d"); err != nil {
				t.Fatal(err)
			}
			g := beginGrowing(t.Context(), s.b, "/d/f", remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			g.Grow(remotetest.Pattern(200_000, 1))
			eventually(t, "all is asked for", func() bool { return g.Wanted() == 200_000 })
			s.foreign(t, "DELETE", "/d", "", nil)
			g.End(remote.Attrs{})
			wantKind(t, g.result(t), remote.NotExist)
			s.cleanSoon(t)
		})
	}
}
