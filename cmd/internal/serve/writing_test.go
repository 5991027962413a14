package serve

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// TestSignalsWhileServersAreWaitedFor: one asks for the end of the mount, one more ends
// the wait.
func TestSignalsWhileServersAreWaitedFor(t *testing.T) {
	for before, want := range map[int]int{0: 2, 1: 1, 2: 1} {
		signals := make(chan os.Signal)
		r := Runner{Log: slog.New(slog.DiscardHandler), Signals: signals, signals: before}
		ctx, cancel := context.WithCancel(t.Context())
		stop := r.hurry(cancel)
		for n := 1; n <= want; n++ {
			if ctx.Err() != nil {
				t.Errorf("%d before: over after %d", before, n-1)
			}
			signals <- syscall.SIGTERM
		}
		select {
		case <-ctx.Done():
		case <-time.After(4 * time.Minute):
			t.Errorf("%d before: not over after %d", before, want)
		}
		stop()
		cancel()
	}
	// Without a signal nothing happens.
	r := Runner{Log: slog.New(slog.DiscardHandler), Signals: make(chan os.Signal)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.hurry(cancel)()
	if ctx.Err() != nil {
		t.Error("it is over")
	}
}

func TestLeftChangesAreTold(t *testing.T) {
	dir := t.TempDir()
	r := Runner{Plan: &Plan{CacheDir: dir, Point: "/mnt"}, Log: slog.New(slog.DiscardHandler)}
	for _, i := range []control.Item{
		{ID: 1, Op: "put", Path: "/a/1", State: control.ItemPending, Size: 2 << 20}, {ID: 2, Op: "put", Path: "/a/2", State: control.ItemWaiting, Cause: "busy", Size: 1 << 20},
		{ID: 3, Op: "put", Path: "/a/3", State: control.ItemParked, Cause: "not allowed"}, {ID: 4, Op: "mkdir", Path: "/a/4", State: control.ItemPending},
	} {
		r.leftovers.Add(i)
	}
	err := r.left(nil)
	want := "4 changes (3.0 MiB) did not reach their servers: /a/3 (not allowed), /a/1, /a/2 (busy), ...; the next mount with " + dir +
		" uploads what can be stored, see: meshmount status /mnt; list: " + dir + "/leftovers.json"
	if exit.CodeOf(err) != exit.DataLeft || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	l, err := pending.ReadLeft(dir)
	if err != nil || l.Count != 4 || l.Mountpoint != "/mnt" || l.CacheDir != dir || l.Ended.IsZero() || l.Changes[2].Cause != "not allowed" {
		t.Errorf("%+v, %v", l, err)
	}
	// Where the list cannot be written the message does without.
	r.Plan.CacheDir = dir + "/gone"
	if err := r.left(nil); exit.CodeOf(err) != exit.DataLeft || strings.Contains(err.Error(), "list: ") {
		t.Errorf("%v", err)
	}
}

// TestNothingWaitsInAMountThatWritesThrough.
func TestNothingWaitsInAMountThatWritesThrough(t *testing.T) {
	r := Runner{Plan: &Plan{Point: "/mnt", CacheDir: "/c", Config: settings.Config{Settings: settings.Settings{Write: settings.WriteThrough}}}}
	var c control.Changes = noChanges{r.frame}
	s, err := c.Status(t.Context(), 5)
	if err != nil || s.Write != "through" || s.Mountpoint != "/mnt" || s.PID != os.Getpid() || s.State != control.StateMounted || s.Items == nil || s.Branches == nil {
		t.Errorf("%+v, %v", s, err)
	}
	r.target = &target{runner: &r}
	if s, err := c.Status(t.Context(), 5); err != nil || s.State != control.StateDraining {
		t.Errorf("%+v, %v", s, err)
	}
	if p, err := c.Progress(t.Context()); err != nil || p.Pending != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if left, err := c.Flush(t.Context(), "/"); err != nil || len(left.Items) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	if n, err := c.RetryAll(t.Context()); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if err := c.Export(t.Context(), "/x", nil, nil); err != nil {
		t.Error(err)
	}
	if err := c.Items(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, err := range []error{c.Retry(t.Context(), 1), c.Drop(t.Context(), 1), c.Export(t.Context(), "/x", []uint64{1}, nil)} {
		if remote.KindOf(err) != remote.NotExist {
			t.Errorf("%v", err)
		}
	}
	if err := c.Pause(t.Context(), true); remote.KindOf(err) != remote.Unsupported {
		t.Errorf("%v", err)
	}
}
