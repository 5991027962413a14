package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// changes is what commands do with what is not on its server yet, of a mount at work or of
// one that has ended.
type changes interface {
	Status(ctx context.Context, items int) (control.Status, error)
	Items(ctx context.Context, yield func(control.Item) error) error
	Retry(ctx context.Context, id uint64) error
	RetryAll(ctx context.Context) (int, error)
	Drop(ctx context.Context, id uint64) error
	Export(ctx context.Context, dir string, ids []uint64, yield func(control.Exported) error) error
}

// aMount is a mount that is or was: its cache directory, where it is or was, and whoever
// tells of its changes.
type aMount struct {
	state.CacheDir
	inside string // the path within it that was named
}

// live tells whether there is a process.
func (m *aMount) live() bool { return m.PID != 0 }

// client talks to the process.
func (m *aMount) client() *control.Client { return control.NewClient(m.Control) }

// open returns who tells of the changes. Call done after use.
func (m *aMount) open() (c changes, done func() error, err error) {
	if m.live() {
		return m.client(), func() error { return nil }, nil
	}
	ended, err := pending.OpenEnded(m.Dir, m.Point)
	switch locked, busy := errors.AsType[*writeback.LockedError](err); {
	case busy:
		return nil, nil, exit.New(exit.CacheBusy, "wait for it", "%w", locked)
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, exit.New(exit.NotMounted, "", "%s is not in use by a mount, and nothing is left of one", m.Dir)
	case err != nil:
		return nil, nil, exit.New(exit.CacheBad, "", "the journal in %s: %w", pending.Dir(m.Dir), err)
	}
	return ended, ended.Close, nil
}

// title names the mount in messages.
func (m *aMount) title() string {
	if m.Point == "" {
		return "cache directory " + m.Dir
	}
	return "the mount on " + m.Point
}

// fault makes an *exit.Error of what the process or the journal says.
func (m *aMount) fault(err error) error {
	if e, ok := errors.AsType[*exit.Error](err); ok {
		return e
	}
	why := err
	if e, ok := errors.AsType[*remote.Error](err); ok && e.Err != nil {
		why = e.Err
	}
	switch {
	case err == nil:
		return nil
	case m.live():
		return answered(state.Mount{Point: m.Point}, err)
	case errors.Is(err, context.Canceled):
		return exit.New(exit.Interrupted, "", "interrupted")
	}
	return exit.New(exit.Failed, "", "%s: %w", m.title(), why)
}

// mountAt finds the mount that a path lies in: one that answers, one that is unmounted and
// still uploads, or one that has ended and left changes.
func (p *Program) mountAt(ctx context.Context, path string) (*aMount, error) {
	path = settings.Absolute(path, p.Dir)
	m, inside, err := state.Locate(path)
	if err == nil {
		var holder state.Holder
		if holder, err = state.HolderOfMount(ctx, m); err == nil {
			return &aMount{state.CacheDir{Dir: holder.CacheDir, Point: m.Point, PID: holder.PID, Control: holder.Control}, inside}, nil
		}
		path = m.Point
	}
	if code := exit.CodeOf(err); code == exit.NotMounted || code == exit.DeadMount {
		if found := p.gone(path); found != nil {
			return found, nil
		}
	}
	return nil, err
}

// gone finds a mount that path lay in and that is not mounted any more: the one whose
// process is at work, or else one that has left changes. nil if there is none.
func (p *Program) gone(path string) *aMount {
	if real, err := state.RealPoint(path); err == nil {
		path = real
	}
	root, err := state.CacheRoot()
	if err != nil {
		return nil
	}
	all, err := state.AllCacheDirs(root)
	if err != nil {
		return nil
	}
	all = slices.DeleteFunc(all, func(c state.CacheDir) bool { return c.Point == "" || !remote.Within(path, c.Point) })
	slices.SortStableFunc(all, func(a, b state.CacheDir) int { return len(b.Point) - len(a.Point) })
	for _, working := range []bool{true, false} {
		for _, c := range all {
			if (c.PID != 0) != working {
				continue
			}
			if !working {
				if n, err := pending.Count(c.Dir); err == nil && n == 0 {
					continue
				}
			}
			return &aMount{c, "/" + strings.TrimPrefix(strings.TrimPrefix(path, c.Point), "/")}
		}
	}
	return nil
}

// everyMount returns all mounts of this user, and those that have ended and left changes.
func (p *Program) everyMount() ([]*aMount, error) {
	root, err := state.CacheRoot()
	if err != nil {
		return nil, err
	}
	all, err := state.AllCacheDirs(root)
	if err != nil {
		return nil, err
	}
	var list []*aMount
	for _, c := range all {
		if c.PID == 0 {
			if n, err := pending.Count(c.Dir); err == nil && n == 0 {
				continue
			}
		}
		list = append(list, &aMount{c, "/"})
	}
	return list, nil
}

// mountFlags are the flags that say which mount a command is about.
type mountFlags struct {
	p          *Program
	dir, point *string
}

func (p *Program) mountFlags(c *cobra.Command) mountFlags {
	f := mountFlags{p: p, dir: c.Flags().String("cache-dir", "", "the directory that was given to mount with --cache-dir, of a mount that is gone")}
	f.point = c.Flags().String("mount", "", "the mount point; needed if there are several mounts")
	_, _ = c.MarkFlagDirname("cache-dir"), c.MarkFlagDirname("mount") // the flags exist
	return f
}

// one returns the mount that is meant: the one that is named, or the only one.
func (f mountFlags) one(ctx context.Context) (*aMount, error) {
	switch {
	case *f.dir != "" && *f.point != "":
		return nil, exit.New(exit.Usage, "leave one of them out", "there are both --mount and --cache-dir")
	case *f.dir != "":
		return f.p.mountIn(*f.dir)
	case *f.point != "":
		return f.p.mountAt(ctx, *f.point)
	}
	all, err := f.p.everyMount()
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, exit.New(exit.NotMounted, "", "there is no mount of yours, and nothing is left of one")
	case len(all) > 1:
		var points []string
		for _, m := range all {
			points = append(points, m.Point)
		}
		return nil, exit.New(exit.Usage, "name one with --mount or --cache-dir", "there are several mounts: %s", strings.Join(points, ", "))
	}
	return all[0], nil
}

// mountIn returns the mount that has or had a cache directory.
func (p *Program) mountIn(dir string) (*aMount, error) {
	dir = settings.Absolute(dir, p.Dir)
	if _, err := os.Stat(dir); err != nil {
		return nil, exit.New(exit.CacheBad, "", "cache directory: %w", err)
	}
	return &aMount{state.LookAt(filepath.Clean(dir)), "/"}, nil
}
