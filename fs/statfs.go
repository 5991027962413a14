package fs

import (
	"context"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Statfs is in bytes and entries.
type Statfs struct {
	Total, Free, Avail uint64
	Files, FreeFiles   uint64
	NameMax            uint32
}

// unlimited is shown as the size of what has no known limit.
const unlimited = 1 << 50

// usageAge is how old the numbers of a branch may be before they are asked again.
const usageAge = time.Minute

// usageCache holds the last known usage of a branch.
type usageCache struct {
	mu     sync.Mutex
	usage  remote.Usage // guarded by mu
	at     time.Time    // guarded by mu; of the last answer or try
	known  bool         // guarded by mu
	asking bool         // guarded by mu
}

// Statfs returns the space of the branch at path from memory and asks the server
// again behind the caller's back. Until it has answered, and where it tells no
// limit, one PiB is shown.
func (f *FS) Statfs(path string) Statfs {
	s := Statfs{Total: unlimited, Free: unlimited, Avail: unlimited, Files: 1 << 40, FreeFiles: 1 << 40, NameMax: nameMax}
	b, _ := f.ns.resolve(path)
	if b == nil {
		return s
	}
	if n := b.caps().MaxName; n > 0 {
		s.NameMax = uint32(min(n, nameMax))
	}
	u, known := f.usage(b)
	if !known {
		return s
	}
	used := uint64(max(u.Used, 0))
	if u.Available >= 0 {
		s.Free = uint64(u.Available)
	}
	s.Avail, s.Total = s.Free, s.Free+used
	return s
}

func (f *FS) usage(b *branch) (remote.Usage, bool) {
	c := &b.usage
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := remote.As[remote.Usager](b.Backend)
	if ok && !c.asking && f.now().Sub(c.at) > usageAge && f.closing.Err() == nil {
		c.asking = true
		f.background.Go(func() { c.ask(f.closing, u, f) })
	}
	return c.usage, c.known
}

func (c *usageCache) ask(ctx context.Context, u remote.Usager, f *FS) {
	usage, err := u.Usage(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, c.at = false, f.now()
	if err == nil {
		c.usage, c.known = usage, true
	}
}
