package writeback

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func bits(mode uint32) *uint32 { return &mode }

// commit commits a new file with a mode.
func (w *site) commit(path, content string, base remote.Entry, mode *uint32) remote.Entry {
	w.t.Helper()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte(content), 0); err != nil {
		w.t.Fatal(err)
	}
	cond := remote.Cond{NotExist: base.Type == 0, Version: base.Version}
	e, err := w.b.Commit(context.Background(), path, st, Commit{Cond: cond, Base: base, Attrs: remote.Attrs{Mode: mode}})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// chmod sets a mode, which shows at once.
func (w *site) chmod(path string, mode uint32) {
	w.t.Helper()
	e, err := w.b.Stat(context.Background(), path)
	if err != nil {
		w.t.Fatal(err)
	}
	if e, err = w.b.SetAttrs(context.Background(), e, remote.Attrs{Mode: &mode}); err != nil || !e.ModeKnown || e.Mode != mode {
		w.t.Fatalf("chmod %o of %s: %+v, %v", mode, path, e, err)
	}
}

// wantStored wants the server to have that mode; stored tells whether as one of its own.
func (w *site) wantStored(path string, mode uint32, stored bool) {
	w.t.Helper()
	e, err := w.server.Stat(context.Background(), path)
	if err != nil || e.ModeKnown != stored || stored && e.Mode != mode {
		w.t.Errorf("the server has %+v, %v; want mode %o (%v)", e, err, mode, stored)
	}
}

// TestUsualModes gives what is pending the mode that it would show without one, before and
// after others, over the ends of processes: it is stored only where another one was.
func TestUsualModes(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := newSite(t, memory.Options{}, Policy{})
		w.commit("/new", "1", remote.Entry{}, bits(0o644))
		w.commit("/tar", "1", remote.Entry{}, bits(0o600))
		w.chmod("/tar", 0o644)
		w.commit("/other", "1", remote.Entry{}, bits(0o644))
		w.chmod("/other", 0o640)
		w.commit("/from", "1", remote.Entry{}, bits(0o600))
		w.chmod("/from", 0o644)
		if _, err := w.b.MakeDir(t.Context(), "/d", remote.Attrs{Mode: bits(0o700)}); err != nil {
			t.Fatal(err)
		}
		w.chmod("/d", 0o755)
		if _, err := w.b.MakeDir(t.Context(), "/own", remote.Attrs{Mode: bits(0o755)}); err != nil {
			t.Fatal(err)
		}
		w.chmod("/own", 0o644) // that of files is none of a directory
		if e, err := w.b.Stat(t.Context(), "/from"); err != nil {
			t.Fatal(err)
		} else if err := w.b.Move(t.Context(), e, "/to", nil, false); err != nil {
			t.Fatal(err)
		}
		if again {
			w.reopen()
		}
		w.s.Start()
		w.flush()
		for _, path := range []string{"/new", "/tar", "/to", "/d"} {
			w.wantStored(path, 0, false)
		}
		w.wantStored("/other", 0o640, true)
		w.wantStored("/own", 0o644, true)
		for _, path := range []string{"/other", "/d", "/tar"} {
			w.chmod(path, 0o600)
		}
		w.flush()
		for path, mode := range map[string]uint32{"/other": 0o644, "/d": 0o755, "/tar": 0o644, "/new": 0o644} {
			w.chmod(path, mode)
		}
		if again {
			w.reopen()
			w.s.Start()
		}
		w.flush()
		w.wantStored("/other", 0o644, true)
		w.wantStored("/d", 0o755, true)
		w.wantStored("/tar", 0o644, true)
		w.wantStored("/new", 0, false)
	}
}

// TestUsualModeOverAnother writes over a file that has a mode of its own: the content alone
// leaves it, and a usual one replaces it.
func TestUsualModeOverAnother(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.s.Start()
	for _, path := range []string{"/keeps", "/gets"} {
		w.commit(path, "1", remote.Entry{}, bits(0o600))
	}
	w.flush()
	for path, mode := range map[string]*uint32{"/keeps": nil, "/gets": bits(0o644)} {
		base, err := w.server.Stat(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(path, "22", base, mode)
	}
	w.flush()
	w.wantStored("/keeps", 0o600, true)
	w.wantStored("/gets", 0o644, true)
}

// TestUsualModeBehindAnother sets the usual mode while the server is given another one, and
// after attempts whose answers were lost: it must not stay at that.
func TestUsualModeBehindAnother(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, again := range []bool{false, true} {
			x := newWatched(t, Policy{})
			x.hold = make(chan struct{})
			var once sync.Once
			x.b.below = remote.Intercept(x.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
				if c.Op == remote.OpStat || c.Op == remote.OpList {
					return next(ctx)
				}
				x.add(c.Op, 1)
				if !lost {
					<-x.hold
				}
				err := next(ctx)
				if lost && (c.Op == remote.OpPut || c.Op == remote.OpSetAttr) {
					<-x.hold
					once.Do(func() { err = &remote.Error{Op: "put", Path: c.Path, Kind: remote.Unavailable, Unsure: true} })
				}
				return err
			})
			x.s.Start()
			x.commit("/f", "1", remote.Entry{}, bits(0o600))
			eventually(t, "it is under way", func() bool { return x.count(x.calls, remote.OpPut) == 1 })
			x.chmod("/f", 0o644)
			close(x.hold)
			if again {
				x.reopen()
				x.s.Start()
			}
			x.flush()
			x.wantStored("/f", 0o644, true)
		}
	}
}

// TestUsualModeOfMade: the mode that was meant for the time until a directory is filled is
// never sent if the usual one follows in time, and replaced if it was.
func TestUsualModeOfMade(t *testing.T) {
	x := newWatched(t, Policy{Delay: time.Hour})
	x.s.Start()
	made := func(path string) remote.Entry {
		n := x.count(x.calls, remote.OpMkdir)
		e := x.dir(path, 0o700)
		eventually(t, "it is made", func() bool { return x.count(x.calls, remote.OpMkdir) == n+1 && x.idle() })
		return e
	}
	made("/d")
	x.chmod("/d", 0o755)
	x.flush()
	x.wantStored("/d", 0, false)
	if n := x.count(x.calls, remote.OpSetAttr); n != 0 {
		t.Errorf("%d calls for what shows by itself", n)
	}
	x.chmod("/d", 0o755)
	x.flush()
	x.wantStored("/d", 0, false)
	made("/e")
	x.flush()
	x.wantStored("/e", 0o700, true)
	x.chmod("/e", 0o755)
	x.flush()
	x.wantStored("/e", 0o755, true)
}

// TestUsualModeFollows: a directory that is to have its last mode already when it is made is
// not given the one before, however soon that would be.
func TestUsualModeFollows(t *testing.T) {
	x := newWatched(t, Policy{})
	e, when := x.dir("/d", 0o700), time.Unix(1_500_000_000, 0)
	x.put("/d/f", "1")
	x.set(e, remote.Attrs{MTime: &when})
	x.chmod("/d", 0o755)
	x.s.Start()
	x.flush()
	x.want("/d", 0o755, when)
	if n := x.count(x.calls, remote.OpSetAttr); n != 1 {
		t.Errorf("%d calls for attributes", n)
	}
}

// TestOwnUsualModes: what is usual is the mount's business, also for what an earlier one with
// another umask has left.
func TestOwnUsualModes(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{Usual: remote.ModesOf(0o077)})
	w.commit("/a", "1", remote.Entry{}, bits(0o600))
	w.commit("/b", "1", remote.Entry{}, bits(0o644))
	w.commit("/c", "1", remote.Entry{}, bits(0o640))
	w.policy.Usual = remote.ModesOf(0o027)
	w.reopen()
	w.s.Start()
	w.flush()
	w.wantStored("/a", 0o600, true)
	w.wantStored("/b", 0o644, true)
	w.wantStored("/c", 0, false)
}
