package fs

import (
	"context"
	"slices"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// create makes a file that the server has yet to see.
func (w *world) create(path, content string) *Handle {
	w.t.Helper()
	h, _, err := w.Create(w.t.Context(), path, syscall.O_RDWR|syscall.O_EXCL, 0o644)
	w.must(err)
	w.put(h, content, 0)
	return h
}

// A file that is not on the server has no attributes there, and no question goes out.
func TestXattrUnborn(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h := s.create("/a/f", "hello")
	defer h.Release()
	s.on(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpChanged { // what was begun before may go on
			return next(ctx)
		}
		t.Errorf("the server was asked: %s", c.Op)
		return c.Fail(remote.Other, nil)
	})
	_, err := s.GetXattr(t.Context(), "/a/f", kept+"x")
	s.kind(err, remote.NoXattr)
	s.kind(s.RemoveXattr(t.Context(), "/a/f", kept+"x"), remote.NoXattr)
	s.kind(s.SetXattr(t.Context(), "/a/f", kept+"x", nil, remote.XattrReplace), remote.NoXattr)
	names, err := s.ListXattr(t.Context(), "/a/f")
	if err != nil || !slices.Contains(names, ownPrefix+"state") || slices.Contains(names, locationsName) {
		t.Errorf("%q, %v", names, err)
	}
	s.on(nil)
	s.must(h.Flush(t.Context()))
}

// Setting an attribute brings the file to the server, once.
func TestXattrSetUnborn(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h := s.create("/a/f", "hello")
	puts := s.count(remote.OpPut)
	for _, name := range []string{"one", "two", "three"} {
		s.must(s.SetXattr(t.Context(), "/a/f", kept+name, []byte(name), remote.XattrCreate))
	}
	if s.server("/f") != "hello" || s.serverX("/f", "two") != "two" || puts() != 1 {
		t.Errorf("the server has %q with %q after %d puts", s.server("/f"), s.serverX("/f", "two"), puts())
	}
	s.must(h.Flush(t.Context()))
	if puts() != 1 {
		t.Errorf("%d puts after the close", puts())
	}
	s.put(h, "HELL", 0)
	s.setX("/a/f", "one", "set while dirty")
	if puts() != 1 {
		t.Error("a file that the server has was put for an attribute")
	}
	s.must(h.Flush(t.Context()))
	h.Release()
	if s.server("/f") != "HELLo" {
		t.Errorf("the server has %q", s.server("/f"))
	}
	s.wantX("/a/f", "one=set while dirty", "three=three", "two=two")
}

// If the file cannot be put, the attribute is refused, and the content is put later.
func TestXattrPutFails(t *testing.T) {
	s := newStrange(t, memory.Options{})
	h := s.create("/a/f", "hello")
	s.failing(remote.OpPut, remote.Unavailable)
	s.kind(s.SetXattr(t.Context(), "/a/f", kept+"x", []byte("1"), 0), remote.Unavailable)
	s.on(nil)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); got != "hello" {
		t.Errorf("the server has %q", got)
	}
	s.wantX("/a/f")
}

// A conflict that is found by setting an attribute is reported by the close as well:
// programs tend to ignore the errors of attributes.
func TestXattrConflict(t *testing.T) {
	for _, sync := range []bool{true, false} {
		s := newStrange(t, memory.Options{})
		h := s.create("/a/f", "ours")
		s.elsewhere("/f", "theirs")
		s.kind(s.SetXattr(t.Context(), "/a/f", kept+"x", []byte("1"), 0), remote.Conflict)
		if sync {
			s.kind(h.Fsync(t.Context()), remote.Conflict)
		} else {
			s.kind(h.Flush(t.Context()), remote.Conflict)
		}
		s.must(h.Flush(t.Context()))
		h.Release()
		if s.server("/f") != "theirs" || s.serverX("/f", "x") != "<none>" {
			t.Errorf("theirs has become %q, %q", s.server("/f"), s.serverX("/f", "x"))
		}
	}
}

// An attribute makes no other version of a file: what is open stays current, pages
// stay good, and what is written next is no conflict.
func TestXattrKeepsVersion(t *testing.T) {
	s := newStrange(t, memory.Options{})
	s.write("/a/f", "hello")
	s.settle()
	h := s.open("/a/f", syscall.O_RDWR)
	before, err := s.Stat(t.Context(), "/a/f")
	s.must(err)
	s.setX("/a/f", "x", "1")
	after, err := s.Stat(t.Context(), "/a/f")
	if err != nil || after.Version != before.Version || after.Ino != before.Ino || !after.MTime.Equal(before.MTime) {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	again := s.open("/a/f", syscall.O_RDONLY)
	if !again.KeepCache() || s.readH(again) != "hello" {
		t.Error("the pages are dropped")
	}
	again.Release()
	s.put(h, "J", 0)
	s.must(h.Flush(t.Context()))
	h.Release()
	if got := s.server("/f"); got != "Jello" {
		t.Errorf("the server has %q", got)
	}
	s.wantX("/a/f", "x=1")
}

// What the server says of a missing file is believed.
func TestXattrGoneElsewhere(t *testing.T) {
	s := newStrange(t, memory.Options{})
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"set":    func() error { return s.SetXattr(ctx, "/a/f", kept+"x", nil, 0) },
		"remove": func() error { return s.RemoveXattr(ctx, "/a/f", kept+"x") },
		"get":    func() error { _, err := s.GetXattr(ctx, "/a/f", kept+"x"); return err },
	} {
		s.write("/a/f", "hello")
		s.drain()
		s.must(s.a.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}))
		if _, err := s.Stat(ctx, "/a/f"); err != nil {
			t.Errorf("%s: what is known is not used: %v", name, err)
		}
		s.kind(do(), remote.NotExist)
		_, err := s.Stat(ctx, "/a/f")
		s.kind(err, remote.NotExist)
	}
}

// A name that has passed to another object is told from the old one.
func TestXattrIdentity(t *testing.T) {
	s := newStrange(t, memory.Options{}, uncached)
	s.write("/a/f", "ours")
	h := s.open("/a/f", syscall.O_RDONLY)
	defer h.Release()
	ino := h.Attr().Ino
	if !s.Is("/a/f", ino) {
		t.Error("the name does not stand for the open file")
	}
	s.elsewhere("/f", "theirs")
	if _, err := s.Stat(t.Context(), "/a/f"); err != nil || s.Is("/a/f", ino) {
		t.Errorf("the name still stands for the open file (%v)", err)
	}
	s.must(s.Unlink(t.Context(), "/a/f"))
	if s.Is("/a/f", ino) {
		t.Error("the removed name stands for the open file")
	}
}
