package write_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// twoMounts are two mounts of one server, each with changes of its own.
type twoMounts struct {
	s           *server
	first, then *mount // in the order in which they upload
}

// meet mounts a server twice, with a file that both know, has both change it before any of
// them uploads, and uploads first the one's changes, then the other's.
func meet(t *testing.T, s *server, base expect, first, then func(m *mount)) *twoMounts {
	t.Helper()
	w := &twoMounts{s: s, first: s.mounted(t, cacheDir(t)), then: s.mounted(t, cacheDir(t))}
	for _, name := range paths(base) {
		w.first.write(t, name, base[name])
	}
	w.first.flush(t)
	must(t, "refresh", w.then.Dir)
	base.inMount(t, w.then)
	must(t, "pause", w.first.Dir)
	must(t, "pause", w.then.Dir)
	first(w.first)
	then(w.then)
	must(t, "resume", w.first.Dir)
	w.first.flush(t)
	must(t, "resume", w.then.Dir)
	w.then.flush(t)
	return w
}

// end unmounts both and returns what the server has, conflict copies under their names
// without host and time.
func (w *twoMounts) end(t *testing.T) map[string][][]byte {
	t.Helper()
	w.first.MustUnmount(t)
	w.then.MustUnmount(t)
	found := map[string][][]byte{}
	for name, e := range w.s.stored(t) {
		if base, _, copied := strings.Cut(name, ".conflict-"); copied {
			name = base + ".conflict"
		}
		found[name] = append(found[name], e.Data)
	}
	return found
}

// wantBoth checks that file f has the first mount's content, and a copy the other's.
func wantBoth(t *testing.T, found map[string][][]byte, first, then []byte) {
	t.Helper()
	if len(found) != 2 || len(found["f"]) != 1 || len(found["f.conflict"]) != 1 ||
		!bytes.Equal(found["f"][0], first) || !bytes.Equal(found["f.conflict"][0], then) {
		for name, all := range found {
			t.Errorf("%s: %d times, %d bytes: %.20q", name, len(all), len(all[0]), all[0])
		}
	}
}

// wantTold checks that the status of a mount tells of a conflict, and that it shows both.
func wantTold(t *testing.T, m *mount, first, then []byte) {
	t.Helper()
	now := m.status(t)
	if now.Branches[0].ConflictCount != 1 || len(now.Branches[0].Conflicts) != 1 {
		t.Fatalf("status tells of no conflict: %+v", now)
	}
	c := now.Branches[0].Conflicts[0]
	if c.Path != "/b/f" || !strings.HasPrefix(c.Copy, "/b/f.conflict-") || c.Time.IsZero() {
		t.Errorf("conflict %+v", c)
	}
	for path, want := range map[string][]byte{m.Dir + c.Path: first, m.Dir + c.Copy: then} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %.20q, %v", path, got, err)
		}
	}
}

// TestConflict has two mounts write one file: both versions survive, and status tells.
func TestConflict(t *testing.T) {
	changes := map[string]func(t *testing.T, m *mount, by string){
		"overwrite": func(t *testing.T, m *mount, by string) { m.write(t, "f", []byte("by "+by)) },
		"append":    func(t *testing.T, m *mount, by string) { m.appendTo(t, "f", []byte("by "+by)) },
		"large": func(t *testing.T, m *mount, by string) {
			m.write(t, "f", append(book(5, 6<<20), []byte(by)...))
		},
		"by rename": func(t *testing.T, m *mount, by string) {
			m.write(t, "temp", []byte("by "+by))
			if err := os.Rename(m.path("temp"), m.path("f")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, change := range changes {
		for _, known := range []bool{true, false} {
			if what == "append" && !known {
				continue
			}
			t.Run(fmt.Sprintf("%s/known=%v", what, known), func(t *testing.T) {
				t.Parallel()
				each(t, func(t *testing.T, s *server) {
					base := expect{}
					if known {
						base["f"] = book(1, 3000)
					}
					var written [2][]byte
					do := func(i int, by string) func(m *mount) {
						return func(m *mount) {
							change(t, m, by)
							written[i], _ = os.ReadFile(m.path("f")) // compared below
						}
					}
					w := meet(t, s, base, do(0, "one"), do(1, "the other"))
					if len(written[0]) < 3 || bytes.Equal(written[0], written[1]) {
						t.Fatalf("wrote %.20q and %.20q", written[0], written[1])
					}
					wantTold(t, w.then, written[0], written[1])
					wantBoth(t, w.end(t), written[0], written[1])
				})
			})
		}
	}
}

// TestConflictSame has two mounts write the same bytes: that is no conflict.
func TestConflictSame(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		do := func(m *mount) { m.write(t, "f", book(9, 5000)) }
		w := meet(t, s, expect{"f": book(1, 3000)}, do, do)
		if found := w.end(t); len(found) != 1 || !bytes.Equal(found["f"][0], book(9, 5000)) {
			t.Errorf("found %d names", len(found))
		}
	})
}

// TestConflictRemoved has one mount remove what the other changes, in both orders: what was
// written survives.
func TestConflictRemoved(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		remove := func(m *mount) {
			if err := os.Remove(m.path("f")); err != nil {
				t.Fatal(err)
			}
		}
		write := func(m *mount) { m.write(t, "f", book(2, 2000)) }
		survives := func(w *twoMounts) {
			t.Helper()
			found := w.end(t)
			if len(found) != 1 || len(found["f"]) != 1 || !bytes.Equal(found["f"][0], book(2, 2000)) {
				t.Errorf("the %s server has %d names, f %d times", w.s.kind, len(found), len(found["f"]))
			}
		}
		survives(meet(t, s, expect{"f": book(1, 3000)}, remove, write))
		survives(meet(t, startServer(t, s.kind), expect{"f": book(1, 3000)}, write, remove))
	})
}

// TestConflictDirectories has both mounts make the same directory with different files in it,
// and one remove a directory in which the other makes a file.
func TestConflictDirectories(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		w := meet(t, s, expect{}, func(m *mount) {
			m.mkdir(t, "d")
			m.write(t, "d/one", book(1, 100))
		}, func(m *mount) {
			m.mkdir(t, "d")
			m.write(t, "d/two", book(2, 100))
		})
		w.first.MustUnmount(t)
		w.then.MustUnmount(t)
		expect{"d": nil, "d/one": book(1, 100), "d/two": book(2, 100)}.onServer(t, s)
	})
}
