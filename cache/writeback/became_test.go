package writeback

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestModeOfWhatIsReplaced sets the mode of a file that has just reached its server, which
// keeps its version by that, and renames another one over it, as editors do. That has a mode
// of its own.
func TestModeOfWhatIsReplaced(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.s.Start()
	f := w.put("/f", "old")
	w.flush()
	mode := uint32(0o600)
	if _, err := w.b.SetAttrs(t.Context(), f, remote.Attrs{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	w.modeOf("/f", mode)
	if now, ok := w.b.Reattributed("/f", f.Version); !ok || now.Mode != mode {
		t.Errorf("it became %+v", now)
	}
	w.s.Pause()
	g := w.put("/g", "new")
	f.Path = "/f"
	if err := w.b.Move(t.Context(), g, "/f", &f, false); err != nil {
		t.Fatal(err)
	}
	w.s.Resume()
	w.flush()
	has(t, w.server, "/f", "new")
	w.modeOf("/f", 0o644)
}

// TestVersionComesBack has a file get, by its attributes and then by its content, a version
// that it had before. What the attributes had made of that is over.
func TestVersionComesBack(t *testing.T) {
	var hour atomic.Int64
	clock := func() time.Time { return time.Unix(1_500_000_000+3600*hour.Load(), 1) }
	w := newSite(t, memory.Options{WeakVersions: true, AttrVersions: true, Clock: clock}, Policy{})
	w.s.Start()
	f := w.put("/f", "one")
	w.flush()
	first, err := w.server.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	hour.Store(1)
	mode := uint32(0o600)
	if _, err := w.b.SetAttrs(t.Context(), f, remote.Attrs{Mode: &mode}); err != nil {
		t.Fatal(err)
	}
	w.flush()
	if now, err := w.server.Stat(t.Context(), "/f"); err != nil || now.Version == first.Version {
		t.Fatalf("the version is still %s, %v", now.Version, err)
	}
	hour.Store(0)
	e := w.put("/f", "two")
	w.flush()
	if now, err := w.server.Stat(t.Context(), "/f"); err != nil || now.Version != first.Version {
		t.Fatalf("the server has the version %s, not %s again, %v", now.Version, first.Version, err)
	}
	if now, ok := w.b.Reattributed("/f", e.Version); !ok || now.Version != first.Version {
		t.Errorf("it became %s, want %s", now.Version, first.Version)
	}
	// It can be replaced all the same.
	if err := w.b.Move(t.Context(), w.put("/g", "three"), "/f", &e, false); err != nil {
		t.Fatal(err)
	}
	w.flush()
	has(t, w.server, "/f", "three")
	if names := w.names("/"); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}
