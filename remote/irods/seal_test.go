package irods

import (
	"bytes"
	"errors"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// outcome is what a put has returned.
type outcome struct {
	e   remote.Entry
	err error
}

// sealing is a zone in which a new object is whole and has no checksum yet.
type sealing struct {
	z        *zone.Zone
	b, other *Backend
	data     []byte
	gate     *gate // before the checksum
	done     chan outcome
}

// beginSealing puts a large object at /f, until the server is asked for its checksum.
func beginSealing(t *testing.T, ask remote.PutOptions) *sealing {
	t.Helper()
	z := startZone(t, zone.Options{})
	s := &sealing{z: z, b: dialSmall(t, options(z, z.Addr())), other: dialSmall(t, options(z, z.Addr())),
		data: content(5*testPiece, 1), done: make(chan outcome, 1)}
	s.gate = newGate(z, wire.APIDataObjChksum, 0)
	go func() {
		e, err := s.b.Put(t.Context(), "/f", remotetest.Bytes(s.data), ask)
		s.done <- outcome{e, err}
	}()
	s.gate.await(t, 1)
	return s
}

// end lets the server compute checksums and returns what the put has returned.
func (s *sealing) end() outcome {
	s.gate.open(all)
	return <-s.done
}

// TestSealedLast has a large new object that others can read before the server has its
// checksum. What they have then stays valid when the checksum is there.
func TestSealedLast(t *testing.T) {
	s := beginSealing(t, fresh)
	bare := stat(t, s.other, "/f")
	if bare.Size != int64(len(s.data)) || bare.Checksum.Hex != "" || !bare.Provisional {
		t.Errorf("before the checksum: %+v", bare)
	}
	wantObject(t, s.other, "/f", s.data)
	got := s.end()
	if got.err != nil || got.e.Checksum.Hex == "" || got.e.Provisional || got.e != stat(t, s.other, "/f") {
		t.Fatalf("%+v, %v; there is %+v", got.e, got.err, stat(t, s.other, "/f"))
	}
	if data, err := readAll(t.Context(), s.other, bare); err != nil || !bytes.Equal(data, s.data) {
		t.Errorf("a read of the version before the checksum: %d bytes, %v", len(data), err)
	}
	if data, err := streamAll(t.Context(), s.other, bare); err != nil || !bytes.Equal(data, s.data) {
		t.Errorf("a stream of the version before the checksum: %d bytes, %v", len(data), err)
	}
	data := content(6*testPiece, 2)
	e := mustPut(t, s.other, "/f", data, upon(bare))
	wantKind(t, s.other.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File, Version: bare.Version}), remote.Conflict, "a removal of what was overwritten")
	wantKind(t, readEntry(t, s.other, bare), remote.Changed, "a read of what was overwritten")
	wantObject(t, s.b, "/f", data)
	if err := s.other.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File, Version: e.Version}); err != nil {
		t.Error(err)
	}
}

// TestSealComparesUnderLock overwrites an object by somebody who has looked at it before its
// checksum was there, and locks it after.
func TestSealComparesUnderLock(t *testing.T) {
	s := beginSealing(t, fresh)
	f := func() found {
		var f found
		err := s.other.do(t.Context(), "look", "/f", false, func(c *session) (err error) {
			f, err = s.other.lookAt(t.Context(), c, s.other.full("/f"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	before := f()
	if got := s.end(); got.err != nil {
		t.Fatal(got.err)
	}
	if after := f(); !before.object.alike(after.object) || after.object.alike(before.object) {
		t.Errorf("%+v and then %+v", before.object, after.object)
	}
}

// TestSealSurvives loses the connection while the server computes the checksum: no byte is
// sent again.
func TestSealSurvives(t *testing.T) {
	for name, fault := range map[string]zone.Fault{"killed": {Kill: true}, "answer lost": {LoseReply: true}} {
		z := startZone(t, zone.Options{})
		b := dialSmall(t, options(z, z.Addr()))
		data := content(5*testPiece, 1)
		z.SetFaults(once(wire.APIDataObjChksum, 1, func() *zone.Fault { return &fault }))
		if e := mustPut(t, b, "/f", data, fresh); e.Checksum.Hex == "" {
			t.Errorf("%s: %+v", name, e)
		}
		if n := z.Calls()[wire.APIDataObjWrite]; n != 5 {
			t.Errorf("%s: %d pieces were sent, want 5", name, n)
		}
		wantObject(t, b, "/f", data)
	}
}

// TestSealRefused has a server that does not compute the checksum: one that never does is
// believed, any other refusal is an error that tells that something was written.
func TestSealRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		fine bool
	}{"permission": {wire.CodeNoAccess, true}, "disk": {wire.CodeUnixRead - 5, false}, "locked": {wire.CodeHierarchy, false}} {
		z := startZone(t, zone.Options{})
		b := dialSmall(t, options(z, z.Addr()))
		z.SetFaults(func(call zone.Call) *zone.Fault {
			if call.API != wire.APIDataObjChksum {
				return nil
			}
			return &zone.Fault{Code: c.code}
		})
		data := content(5*testPiece, 1)
		e, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), fresh)
		if (err == nil) != c.fine || err != nil && !unsure(err) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
		wantObject(t, b, "/f", data)
	}
}

// TestSealFindsRot has other bytes on the server's disk than were sent.
func TestSealFindsRot(t *testing.T) {
	s := beginSealing(t, fresh)
	rot(t, s.data)
	got := s.end()
	wantKind(t, got.err, remote.Corrupt, "a put of which a byte has changed")
	if !unsure(got.err) {
		t.Errorf("%v, and nothing was altered", got.err)
	}
}

// TestSealOvertaken has somebody else write the object, take it away, or put another one in
// its place before its checksum is there.
func TestSealOvertaken(t *testing.T) {
	theirs := content(3*testPiece, 7)
	for name, c := range map[string]struct {
		ask  remote.PutOptions
		then func(b *Backend) error
		want remote.Kind
		left []byte
	}{
		"overwritten": {fresh, func(b *Backend) error {
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(theirs), remote.PutOptions{})
			return err
		}, remote.Exist, theirs},
		"overwritten without a condition": {remote.PutOptions{}, func(b *Backend) error {
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes(theirs), remote.PutOptions{})
			return err
		}, remote.Conflict, theirs},
		"replaced": {fresh, func(b *Backend) error {
			_, err := b.Put(t.Context(), "/g", remotetest.Bytes(theirs[:100]), fresh)
			return errors.Join(err, b.Rename(t.Context(), "/g", "/f", remote.RenameOptions{}))
		}, remote.Exist, theirs[:100]},
		"removed": {fresh, func(b *Backend) error {
			return b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File})
		}, remote.Unavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := beginSealing(t, c.ask)
			if err := c.then(s.other); err != nil {
				t.Fatal(err)
			}
			got := s.end()
			wantKind(t, got.err, c.want, "the put")
			if !unsure(got.err) {
				t.Errorf("%v, and nothing was altered", got.err)
			}
			if c.left == nil {
				wantKind(t, errOf(s.other.Stat(t.Context(), "/f")), remote.NotExist, "what was removed")
				return
			}
			if e := wantObject(t, s.other, "/f", c.left); e.Checksum.Hex == "" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func errOf(_ remote.Entry, err error) error { return err }
