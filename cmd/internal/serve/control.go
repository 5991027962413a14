package serve

import (
	"context"
	"errors"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// target is the mount, for its control socket.
type target struct {
	control.Changes // what is not on its server yet

	runner  *Runner
	started time.Time

	mu   sync.Mutex
	core *fs.FS // guarded by mu; nil once the mount is gone
}

var _ control.Target = (*target)(nil)

// listen makes the control socket. A mount can do without.
func (r *Runner) listen(holder state.Holder) {
	r.target = &target{Changes: noChanges{r.frame}, runner: r, started: time.Now(), core: r.parts.core}
	if r.parts.journal != nil {
		r.target.Changes = r.changes()
	}
	server, err := control.Listen(holder.Control, r.target, r.Log)
	if err != nil {
		r.Log.Warn("no control socket: refresh and stats will not work", "err", err)
		return
	}
	r.control = server
}

// closeControl ends the control socket, if there is one.
func (r *Runner) closeControl(context.Context) error {
	if r.control == nil {
		return nil
	}
	return r.control.Close()
}

// unmounted takes note that the mount is gone: nobody sees what it would remember.
func (t *target) unmounted() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.core = nil
}

// isUnmounted tells whether the mount is gone.
func (t *target) isUnmounted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.core == nil
}

var errUnmounted = errors.New("it is unmounted, and its process is still at work")

// Refresh implements control.Target.
func (t *target) Refresh(ctx context.Context, path string) error {
	t.mu.Lock()
	core := t.core
	t.mu.Unlock()
	if core == nil {
		return &remote.Error{Op: "refresh", Path: path, Kind: remote.Unavailable, Err: errUnmounted}
	}
	if err := core.Refresh(ctx, path); err != nil || path == "/" {
		return err
	}
	if _, err := core.Stat(ctx, path); !errors.Is(err, remote.NotExist) {
		return nil
	}
	// That may be the word of the listing above, which knows nothing of this name.
	dir, _ := remote.Split(path)
	return errors.Join(core.Refresh(ctx, dir), core.Refresh(ctx, path))
}

// Stats implements control.Target.
func (t *target) Stats(context.Context) (control.Stats, error) {
	p := t.runner.Plan
	s := control.Stats{
		PID: os.Getpid(), Mountpoint: p.Point, Version: p.Version, Started: t.started, Memory: memoryUse(p.Memory.Whole),
		Cache: t.runner.parts.cacheStats(p.CacheDir), Ahead: t.runner.parts.aheadStats(),
	}
	for i, stack := range t.runner.parts.stacks {
		b := &p.Config.Branches[i]
		s.Branches = append(s.Branches, control.Branch{Name: b.Name, URL: b.URL, Ops: opStats(stack)})
	}
	return s, nil
}

func (p *parts) cacheStats(cacheDir string) *control.Cache {
	if p.store == nil {
		return nil
	}
	s := p.store.Stats()
	return &control.Cache{
		Dir: assemble.BlocksDir(cacheDir), State: string(s.State), Reason: s.Reason, BlockSize: p.store.BlockSize(),
		Slots: s.Slots, MaxSlots: s.MaxSlots, Free: s.Free, Hits: s.Hits, Misses: s.Misses, HitBytes: s.HitBytes,
		Puts: s.Puts, PutBytes: s.PutBytes, Refused: s.Refused, Evicted: s.Evicted, Corrupt: s.Corrupt,
		Listings: control.Meta{
			On: s.Meta.On, Reason: s.Meta.Reason, Kept: s.Meta.Kept, Bytes: s.Meta.Bytes, MaxBytes: s.Meta.MaxBytes,
			Loads: s.Meta.Loads, Hits: s.Meta.Hits, Saves: s.Meta.Saves, Dropped: s.Meta.Dropped, Corrupt: s.Meta.Corrupt,
		},
	}
}

func (p *parts) aheadStats() *control.Ahead {
	for _, b := range p.branches {
		if b.Ahead != nil {
			s := p.budget.Stats()
			return &control.Ahead{Limit: s.Limit, Used: s.Used, Kept: s.Kept, Most: s.Most, Refused: s.Refused, Readers: s.Readers}
		}
	}
	return nil
}

// opStats returns what was counted of a stack's requests.
func opStats(stack remote.Backend) map[string]control.Op {
	ops := map[string]control.Op{}
	observed := observedIn(stack)
	if observed == nil {
		return ops
	}
	for op, s := range observed.Stats() {
		errs := map[string]int64{}
		for kind, n := range s.Errors {
			errs[kind.String()] = n
		}
		ops[string(op)] = control.Op{
			Calls: s.Calls, InFlight: s.InFlight, Cancelled: s.Cancelled, Errors: errs,
			Seconds: s.Time.Seconds(), Longest: s.MaxTime.Seconds(), Received: s.Received, Sent: s.Sent,
		}
	}
	return ops
}

// observedIn finds the decorator that counts, nil if there is none.
func observedIn(stack remote.Backend) *remote.Observed {
	for stack != nil {
		if o, ok := stack.(*remote.Observed); ok {
			return o
		}
		outer, ok := stack.(remote.Unwrapper)
		if !ok {
			return nil
		}
		stack = outer.Unwrap()
	}
	return nil
}

// memoryUse tells how much memory the process has.
func memoryUse(limit int64) control.Memory {
	m := control.Memory{Limit: limit, Resident: resident("/proc/self/statm")}
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	if heap[0].Value.Kind() == metrics.KindUint64 {
		m.Heap = int64(heap[0].Value.Uint64())
	}
	return m
}

// resident returns the bytes of the second field of a file like /proc/self/statm
// (proc(5)), 0 if it cannot be read.
func resident(statm string) int64 {
	text, err := os.ReadFile(statm)
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
