package writeback

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestBatchInArchiveAgain stores files in an archive, of which the answer is lost, and goes on in
// another process: they are known for what they are, and there is no conflict copy.
func TestBatchInArchiveAgain(t *testing.T) {
	server := memory.New(memory.Options{})
	k := keep.Wrap(server, keep.Options{})
	var batches, stored atomic.Int64
	x := &site{t: t, server: server, dir: t.TempDir(), opts: Options{RetryWait: time.Millisecond, Hostname: "here"}}
	x.policy.Name, x.policy.Tree = "b", "memory:b"
	x.policy.Batch = Batching{Size: 64 << 10, Files: 40, Bytes: 1 << 20, Delay: time.Millisecond}
	x.faulty = remotetest.Faulty(remote.Intercept(k, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op != remote.OpPutBatch {
			return next(ctx)
		}
		if batches.Add(1) == 1 {
			if err := next(ctx); err == nil {
				stored.Store(int64(len(c.Stored)))
			}
			c.Stored = nil
		}
		if stored.Load() > 0 && batches.Load() < 3 {
			return &remote.Error{Op: "put", Path: c.Path, Kind: remote.Unavailable, Unsure: true}
		}
		return next(ctx)
	}), remotetest.Plan{})
	x.open()
	t.Cleanup(func() { _ = x.s.Close() })
	for i := range 5 {
		x.put(fmt.Sprintf("/f%d", i), fmt.Sprintf("content %d", i))
	}
	x.s.Start()
	for end := time.Now().Add(time.Minute); stored.Load() == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	x.reopen()
	x.s.Start()
	x.flush()
	if c := x.s.Status().Branches[0].Conflicts; len(c) > 0 || stored.Load() != 5 {
		t.Errorf("%d were stored, conflicts %v", stored.Load(), c)
	}
	names := 0
	other := keep.Wrap(server, keep.Options{})
	if err := other.List(t.Context(), "/", func(remote.Entry) error { names++; return nil }); err != nil || names != 5 {
		t.Errorf("%d files, %v", names, err)
	}
	for i := range 5 {
		has(t, other, fmt.Sprintf("/f%d", i), fmt.Sprintf("content %d", i))
	}
}
