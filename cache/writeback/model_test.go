package writeback

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// checked is a branch that, when it is closed, brings everything to its server and
// compares what is there with what it has shown.
type checked struct {
	closing
	t      *testing.T
	faulty *remotetest.FaultyBackend
	done   bool
}

func (c *checked) Close() error {
	if !c.done {
		c.done = true
		before := dump(c.t, c.Branch)
		c.faulty.SetPlan(remotetest.Plan{})
		if err := c.s.Flush(context.Background(), "", "/"); err != nil {
			c.t.Errorf("flush: %v", err)
		}
		compareDumps(c.t, before, dump(c.t, c.Branch), "the branch after the flush")
		compareDumps(c.t, before, dump(c.t, c.below), "the server after the flush")
	}
	return c.closing.Close()
}

// dump returns types and contents of all of a tree.
func dump(t *testing.T, b remote.Backend) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		var dirs []string
		err := b.List(context.Background(), dir, func(e remote.Entry) error {
			all[e.Path] = e.Type.String() + " " + e.Target
			switch e.Type {
			case remote.Dir:
				dirs = append(dirs, e.Path)
			case remote.File:
				p := make([]byte, e.Size)
				if n, err := b.ReadAt(context.Background(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0); err != nil && err != io.EOF {
					t.Errorf("%s: read %d bytes: %v", e.Path, n, err)
				}
				all[e.Path] = string(p)
			}
			return nil
		})
		if err != nil {
			t.Errorf("list %s: %v", dir, err)
		}
		for _, d := range dirs {
			walk(d)
		}
	}
	walk("/")
	return all
}

func compareDumps(t *testing.T, want, got map[string]string, what string) {
	t.Helper()
	for p, v := range want {
		if g, ok := got[p]; !ok {
			t.Errorf("%s lacks %s", what, p)
		} else if g != v {
			t.Errorf("%s has another %s: %d bytes, want %d", what, p, len(g), len(v))
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%s has %s besides", what, p)
		}
	}
}

// TestModelUnderFaults does random operations on a branch whose server fails in every
// way: the branch shows what is expected all the time, and the server has it in the end.
func TestModelUnderFaults(t *testing.T) {
	t.Run("Alone", func(t *testing.T) { modelUnderFaults(t, plainBackend, Policy{}) })
	t.Run("Batches", func(t *testing.T) {
		modelUnderFaults(t, plainBatches, Policy{Batch: Batching{Size: 4 << 10, Files: 10, Bytes: 20 << 10, Delay: time.Millisecond}})
	})
	t.Run("Trees", func(t *testing.T) {
		modelUnderFaults(t, plainBackend, Policy{Prune: Pruning{Most: 100, Lull: time.Millisecond, Longest: 5 * time.Millisecond}})
	})
}

func modelUnderFaults(t *testing.T, server func() remote.Backend, p Policy) {
	p.Delay = time.Millisecond
	changes := []remote.Op{remote.OpPut, remote.OpPutBatch, remote.OpPatch, remote.OpMkdir, remote.OpRemove, remote.OpPrune, remote.OpRename, remote.OpSetAttr, remote.OpSymlink}
	remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
		faulty := remotetest.Faulty(server(), remotetest.Plan{Seed: 5, Rules: []remotetest.Rule{
			{Ops: changes, P: 0.1, Fault: remotetest.FaultError},
			{Ops: changes, P: 0.1, Fault: remotetest.FaultLost},
			{Ops: []remote.Op{remote.OpPut, remote.OpPatch}, P: 0.1, Fault: remotetest.FaultReset},
			{Ops: changes, P: 0.3, Latency: time.Millisecond},
		}})
		below := remote.Retry(faulty, remote.RetryOptions{Tries: 50, Wait: time.Microsecond, MaxWait: time.Millisecond})
		s, b := openBranch(t, t.TempDir(), below, Options{RetryWait: time.Microsecond, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}, p)
		s.Start()
		return remotetest.Target{Backend: &checked{closing{b, s}, t, faulty, false}, LateVersions: true}
	})
}
