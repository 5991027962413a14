package writeback

import (
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// open opens a journal in a directory and wraps below.
func openBranch(t testing.TB, dir string, below remote.Backend, o Options, p Policy) (*Store, *Branch) {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	p.Name, p.Tree = "b", "memory:b"
	b, err := s.Wrap(below, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, b
}

// closing closes the journal before the branch.
type closing struct {
	*Branch
	s *Store
}

func (c closing) Close() error {
	if err := c.s.Close(); err != nil {
		return err
	}
	return c.Branch.Close()
}

// TestConformancePending runs the suite on a branch whose server sees nothing of what is
// changed but what a later call cannot do without.
func TestConformancePending(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		s, b := openBranch(t, t.TempDir(), plainBackend(), Options{}, Policy{Delay: time.Hour})
		s.Start()
		return remotetest.Target{Backend: closing{b, s}, LargeDir: 300, LateVersions: true}
	})
}

// plain has the abilities that write-back covers itself. What others tell of the server
// alone (versions of directories, changes, extended attributes, replicas) does not know of
// pending changes.
type plain struct {
	remote.Backend
	remote.Opener
	remote.AttrSetter
	remote.Symlinker
}

func plainBackend() remote.Backend {
	m := memory.New(memory.Options{})
	return plain{m, m, m, m}
}

// plainBatches is plainBackend with the ability of batches.
func plainBatches() remote.Backend {
	m := memory.New(memory.Options{Batches: someBatches})
	return struct {
		plain
		remote.Batcher
	}{plain{m, m, m, m}, m}
}

// synced is a branch that waits for its server after each change.
type synced struct{ closing }

func (b synced) settle(ctx context.Context, path string, e remote.Entry, err error) (remote.Entry, error) {
	if err != nil {
		return e, err
	}
	if err := b.s.Flush(ctx, "", "/"); err != nil {
		return remote.Entry{}, err
	}
	return b.Stat(ctx, path)
}

func (b synced) Put(ctx context.Context, path string, src remote.Source, o remote.PutOptions) (remote.Entry, error) {
	e, err := b.Branch.Put(ctx, path, src, o)
	return b.settle(ctx, path, e, err)
}

func (b synced) PutGrowing(ctx context.Context, path string, src remote.Growing, o remote.PutOptions) (remote.Entry, error) {
	e, err := b.Branch.PutGrowing(ctx, path, src, o)
	return b.settle(ctx, path, e, err)
}

func (b synced) Patch(ctx context.Context, path string, p remote.Patch, o remote.PutOptions) (remote.Entry, error) {
	e, err := b.Branch.Patch(ctx, path, p, o)
	return b.settle(ctx, path, e, err)
}

func (b synced) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	e, err := b.Branch.Mkdir(ctx, path)
	return b.settle(ctx, path, e, err)
}

func (b synced) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	e, err := b.Branch.Symlink(ctx, path, target)
	return b.settle(ctx, path, e, err)
}

func (b synced) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	e, err := b.Branch.SetAttr(ctx, path, a)
	return b.settle(ctx, path, e, err)
}

func (b synced) Remove(ctx context.Context, path string, o remote.RemoveOptions) error {
	if err := b.Branch.Remove(ctx, path, o); err != nil {
		return err
	}
	return b.s.Flush(ctx, "", "/")
}

// TestConformanceSettled runs the suite on a branch that brings each change to its server
// at once; others change the server directly.
func TestConformanceSettled(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		m := memory.New(memory.Options{})
		s, b := openBranch(t, t.TempDir(), m, Options{}, Policy{Delay: time.Millisecond})
		s.Start()
		return remotetest.Target{Backend: synced{closing{b, s}}, LargeDir: 300}
	})
}
