package zone

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// level is a degree of access, with the numbers of the catalog's tokens.
type level int

// The levels that have a meaning here.
const (
	levelNull         level = 1000
	levelReadMetadata level = 1040
	levelRead         level = 1050
	levelCreateMeta   level = 1070
	levelModifyMeta   level = 1080
	levelDeleteMeta   level = 1090
	levelCreate       level = 1110
	levelModify       level = 1120
	levelDelete       level = 1130
	levelOwn          level = 1200
)

// levels are the names of levels; those with a space are of servers before 4.3.
var levels = map[string]level{
	"null": levelNull, "read_metadata": levelReadMetadata, "read_object": levelRead, "read": levelRead,
	"read object": levelRead, "create_metadata": levelCreateMeta, "modify_metadata": levelModifyMeta,
	"delete_metadata": levelDeleteMeta, "create_object": levelCreate, "modify_object": levelModify,
	"modify object": levelModify, "write": levelModify, "delete_object": levelDelete, "own": levelOwn,
}

// String returns the name that the catalog shows.
func (l level) String() string {
	switch l {
	case levelRead:
		return "read_object"
	case levelModify:
		return "modify_object"
	}
	for name, have := range levels {
		if have == l {
			return name
		}
	}
	return "null"
}

// avu is a piece of metadata.
type avu struct {
	ID                 int64
	Name, Value, Units string
	Time               int64
}

// user is an account or a group.
type user struct {
	ID       int64
	Name     string
	Zone     string `json:",omitempty"` // of a user of another zone
	Type     string // "rodsadmin", "rodsuser" or "rodsgroup"
	Password string `json:",omitempty"`
	PAM      string `json:",omitempty"`
	Groups   []int64
	Time     int64
	AVUs     []avu
}

func (u *user) admin() bool { return u.Type == "rodsadmin" }

// full returns the name, with the zone if that is another one. It is the name of the
// user's home and trash.
func (u *user) full() string {
	if u.Zone == "" {
		return u.Name
	}
	return u.Name + "#" + u.Zone
}

// zone returns the user's zone.
func (u *user) zone(local string) string { return cmp.Or(u.Zone, local) }

// owner splits the name of an owner, as full returns it.
func owner(name, local string) (user, zone string) {
	user, zone, _ = strings.Cut(name, "#")
	return user, cmp.Or(zone, local)
}

// resource is a place for replicas.
type resource struct {
	ID   int64
	Name string
	Time int64
	AVUs []avu
}

// access says who may do what; keys are ids of users and groups.
type access map[int64]level

// coll is a collection.
type coll struct {
	ID, ParentID   int64
	Name           string
	Owner          string
	Inherit        bool
	Create, Modify int64
	Access         access
	AVUs           []avu

	parent *coll // nil for "/"
	gone   bool  // removed
	subs   map[string]*coll
	objs   map[string]*object
}

// path returns the collection's path.
func (c *coll) path() string {
	if c.parent == nil {
		return "/"
	}
	if c.parent.parent == nil {
		return "/" + c.Name
	}
	return c.parent.path() + "/" + c.Name
}

// join returns the path of an entry of the collection.
func (c *coll) join(name string) string {
	if c.parent == nil {
		return "/" + name
	}
	return c.path() + "/" + name
}

// below tells whether c is other or lies below it.
func (c *coll) below(other *coll) bool {
	for ; c != nil; c = c.parent {
		if c == other {
			return true
		}
	}
	return false
}

// walk calls onObject for each object of the collection, then walks each collection in
// it, then calls onColl for the collection itself, until one returns an error.
func (c *coll) walk(onObject func(*object) error, onColl func(*coll) error) error {
	for _, name := range slices.Sorted(maps.Keys(c.objs)) {
		if err := onObject(c.objs[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.subs)) {
		if err := c.subs[name].walk(onObject, onColl); err != nil {
			return err
		}
	}
	return onColl(c)
}

// States of a replica.
const (
	stale        = 0
	good         = 1
	intermediate = 2
	writeLocked  = 4
)

// replica is one copy of an object's bytes.
type replica struct {
	Num            int
	Resc           int64
	Size           int64
	Status         int
	Checksum       string
	Create, Modify int64

	entry *entry // nil: nobody has it open for writing
}

// object is a data object.
type object struct {
	ID, CollID int64
	Name       string
	Type       string
	Owner      string
	Mode       string
	Access     access
	AVUs       []avu
	Replicas   []*replica

	coll    *coll
	writing *writing // nil: not open for writing
	gone    bool     // unlinked
}

func (o *object) path() string { return o.coll.join(o.Name) }

// best returns the replica that stands for the object: the first good one, otherwise
// the one being written, otherwise the first.
func (o *object) best() *replica {
	for _, want := range []int{good, intermediate, writeLocked} {
		for _, r := range o.Replicas {
			if r.Status == want {
				return r
			}
		}
	}
	return o.Replicas[0]
}

// writing is the lock on an object that is open for writing.
type writing struct {
	token   string
	replica *replica
	before  map[*replica]int // statuses to go back to
}

// desc is an open object.
type desc struct {
	fd       int
	obj      *object
	replica  *replica
	resource *resource
	file     *os.File
	in       *wire.DataObjInp // as given by the client
	atOpen   replica          // the replica after the open
	write    *writing         // nil: read-only
	created  bool             // the open made the replica
	joined   bool             // opened by another's token
	exited   bool             // no longer one of the replica's writers
	wrote    int64            // bytes written; -1: none
}
