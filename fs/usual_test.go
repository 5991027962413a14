package fs

import (
	"testing"

	"github.com/meshmount/meshmount/remote/memory"
)

// TestBackUsualModeIsForgotten: a mode that the server does not keep is remembered here until
// another one is set, also the one that is shown without any.
func TestBackUsualModeIsForgotten(t *testing.T) { testUsualModeIsForgotten(t) }

// TestUsualModeIsForgotten is the same without a journal, or by TestWriteBack with one.
func TestUsualModeIsForgotten(t *testing.T) { testUsualModeIsForgotten(t) }

func testUsualModeIsForgotten(t *testing.T) {
	for _, noMode := range []bool{false, true} {
		for _, pending := range []bool{false, true} {
			s := newStrange(t, memory.Options{NoMode: noMode})
			s.elsewhere("/f", "before")
			s.names("/a")
			if pending && s.journal.store != nil {
				s.journal.store.Pause()
				s.write("/a/f", "after")
			}
			for _, mode := range []uint32{0o600, 0o644, 0o640, 0o644} {
				if _, err := s.Setattr(t.Context(), "/a/f", nil, 0, SetAttr{Mode: &mode}); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if a, err := s.Stat(t.Context(), "/a/f"); err != nil || a.Mode != mode {
						t.Errorf("no mode %v, pending %v: mode %o, %v; want %o", noMode, pending, a.Mode, err, mode)
					}
					if s.journal.store != nil && (!pending || mode == 0o640) {
						s.journal.store.Resume()
						s.settle()
					}
				}
			}
			s.settle()
			b, _ := s.ns.resolve("/a/f")
			if kept := b.meta.keptOf("/f"); kept.Mode != nil {
				t.Errorf("no mode %v, pending %v: %o is still kept here", noMode, pending, *kept.Mode)
			}
		}
	}
}
