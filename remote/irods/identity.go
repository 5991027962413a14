package irods

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// identity is who we are to the catalog of the branch's zone: the user and the groups.
type identity struct {
	mu  sync.Mutex
	ids string // as a condition: "in ('10','11')"
	at  time.Time
}

// idLife is how long the membership in groups is taken for unchanged.
const idLife = 10 * time.Minute

// ownerName is how the catalog names the user as an owner.
func (b *Backend) ownerName() string { return b.opts.User + "#" + b.opts.Zone }

// idCondition returns the condition that a column is the user or one of the user's
// groups. The catalog has each user as a member of a group of its own.
func (b *Backend) idCondition(ctx context.Context, s *session) (string, error) {
	who := &b.who
	who.mu.Lock()
	ids, fresh := who.ids, time.Since(who.at) < idLife
	who.mu.Unlock()
	if ids != "" && fresh {
		return ids, nil
	}
	c := ask(b.zone, wire.ColUserGroupID).equal(wire.ColUserName, b.opts.User).equal(wire.ColUserZone, b.opts.Zone)
	var list []string
	for {
		more, err := c.next(ctx, s)
		if err != nil {
			return "", err
		}
		if !more {
			break
		}
		id, err := c.number(wire.ColUserGroupID)
		if err != nil {
			return "", err
		}
		list = append(list, "'"+strconv.FormatInt(id, 10)+"'")
	}
	if len(list) == 0 {
		list = []string{"'-1'"} // an administrator of another kind: no access of its own
	}
	ids = "in (" + strings.Join(list, ",") + ")"
	who.mu.Lock()
	defer who.mu.Unlock()
	who.ids, who.at = ids, time.Now()
	return ids, nil
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
