package irods

import (
	"errors"
	"strconv"
	"sync"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// choices are the replicas to read of objects that have others, stale ones, as well. Left
// alone, the server takes a good one, but a stale one while the storage of the good one is
// down (by its source). Objects with good replicas only are left to the server.
type choices struct {
	mu   sync.Mutex
	list map[string]int // number by version
}

// mostChoices bounds the memory. What is forgotten is found out again.
const mostChoices = 10_000

// errReplica tells that an object was open of which the server might have taken a stale
// replica.
var errReplica = errors.New("it may be a stale replica that was read")

// note remembers which replica of an object is good, if others are not.
func (c *choices) note(o *object) {
	good, state := o.best()
	if state != whole {
		return
	}
	mixed := false
	for _, r := range o.replicas {
		mixed = mixed || r.status == wire.ReplicaStale
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case mixed && len(c.list) >= mostChoices:
		c.list = nil
		fallthrough
	case mixed:
		if c.list == nil {
			c.list = map[string]int{}
		}
		c.list[o.version()] = good.number
	case len(c.list) > 0:
		delete(c.list, o.version())
	}
}

// number returns the replica to read, anyReplica if all will do.
func (c *choices) number(version string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.list[version]; ok {
		return n
	}
	return anyReplica
}

// choose asks for a replica.
func choose(in *wire.DataObjInp, replica int) *wire.DataObjInp {
	if replica != anyReplica {
		in.Cond.Set(wire.KwReplNum, strconv.Itoa(replica))
	}
	return in
}
