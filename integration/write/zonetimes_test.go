package write_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// TestTimesOnAZone: of many small files on a zone, times that programs set are stored, and what
// this mount shows of the others stays when they have arrived. None takes a call of its own but
// the times that are set.
func TestTimesOnAZone(t *testing.T) {
	s := startZone(t)
	m := s.mounted(t, cacheDir(t), "--upload-delay=1s")
	const n = 12
	set := time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)
	shown := map[string]time.Time{}
	for i := range n {
		name := m.path(fmt.Sprintf("f%02d", i))
		if err := os.WriteFile(name, book(uint64(i), 5000), 0o644); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			if err := os.Chtimes(name, set, set); err != nil {
				t.Fatal(err)
			}
		}
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		shown[name] = fi.ModTime()
	}
	time.Sleep(1100 * time.Millisecond) // the catalog's times are whole seconds
	m.flush(t)
	for name, want := range shown {
		if fi, err := os.Stat(name); err != nil || !fi.ModTime().Equal(want) {
			t.Errorf("%s: %v, %v; it was %v", name, fi.ModTime(), err, want)
		}
	}
	calls := s.zone.Calls()
	if calls[wire.APITouch] != n/4 || calls[wire.APIStructFileExtAndReg] != 1 || calls[wire.APIDataObjChksum] != 1 {
		t.Errorf("%v", calls)
	}
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	m = s.mounted(t, cacheDir(t))
	for i := range n {
		fi, err := os.Stat(m.path(fmt.Sprintf("f%02d", i)))
		if err != nil || fi.ModTime().Equal(set) != (i%4 == 0) || time.Since(fi.ModTime()) > time.Hour && i%4 != 0 {
			t.Errorf("another mount shows %v of file %d, %v", fi.ModTime(), i, err)
		}
	}
}
