package irods

import (
	"context"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// identity is what the catalog of the branch's zone knows about us.
type identity struct {
	mu    sync.Mutex
	known bool
	joins bool
}

// ownerName is how the catalog names the user as an owner.
func (b *Backend) ownerName() string { return b.opts.User + "#" + b.opts.Zone }

// joins tells whether the levels of access can be had together with what they are for:
// then there is a row for each level that the user or one of the user's groups has, and
// none for what the user has no access to. That is what the server shows anyway, but to
// an administrator it shows all.
func (b *Backend) joins(ctx context.Context, s *session) (bool, error) {
	who := &b.who
	who.mu.Lock()
	known, joins := who.known, who.joins
	who.mu.Unlock()
	if known {
		return joins, nil
	}
	c := ask(b.zone, wire.ColUserType).equal(wire.ColUserName, b.opts.User).equal(wire.ColUserZone, b.opts.Zone)
	more, err := c.next(ctx, s)
	if err != nil {
		return false, err
	}
	who.mu.Lock()
	defer who.mu.Unlock()
	who.known, who.joins = true, more && c.text(wire.ColUserType) != "rodsadmin"
	return who.joins, nil
}

// ofObjects restricts the levels of access to objects to ours. The catalog has each user
// as a member of a group of its own.
func (b *Backend) ofObjects(c *cursor) *cursor {
	return c.equal(wire.ColDataAccessUserName, b.opts.User).equal(wire.ColDataAccessUserZone, b.opts.Zone)
}

// ofColls is ofObjects for collections.
func (b *Backend) ofColls(c *cursor) *cursor {
	return c.equal(wire.ColCollAccessUserName, b.opts.User).equal(wire.ColCollAccessUserZone, b.opts.Zone)
}

// askObjects asks for objects, with our levels of access if they can be joined.
func (b *Backend) askObjects(joins bool) *cursor {
	c := ask(b.zone, objectColumns...)
	if joins {
		c.in.Select(wire.ColDataAccessType)
		b.ofObjects(c)
	}
	return c.orderBy(wire.ColDataID)
}

// askColls is askObjects for collections.
func (b *Backend) askColls(joins bool) *cursor {
	c := ask(b.zone, collColumns...)
	if joins {
		c.in.Select(wire.ColCollAccessType)
		b.ofColls(c)
	}
	return c.orderBy(wire.ColCollID)
}

// clock knows how far the server's clock is from ours.
type clock struct {
	mu    sync.Mutex
	skew  time.Duration // the server's minus ours
	known bool
}

// The age at which the time stamp of an object without a checksum proves something:
// stamps are whole seconds. Without knowledge of the server's clock, more is needed.
const (
	grownUp    = 3 * time.Second
	grownUpFar = time.Minute
)

// young tells whether a change at mtime by the server's clock was so recent that
// another one could hide behind it.
func (c *clock) young(mtime time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return time.Since(mtime) < grownUpFar
	}
	return time.Now().Add(c.skew).Sub(mtime) < grownUp
}

// learn takes a time stamp that the server made between begin and now.
func (c *clock) learn(stamp, begin time.Time) {
	end := time.Now()
	if end.Sub(begin) > 5*time.Second {
		return // says too little
	}
	skew := stamp.Add(500 * time.Millisecond).Sub(begin.Add(end.Sub(begin) / 2))
	c.mu.Lock()
	defer c.mu.Unlock()
	if skew.Abs() <= time.Second {
		skew = 0 // within what whole seconds can tell
	}
	c.skew, c.known = skew, true
}

// now returns the server's time as far as it is known.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}
