package zone

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// catalog is what the zone knows. All of it is guarded by Zone.mu.
type catalog struct {
	dir, zone string
	log       *os.File
	lastID    int64
	root      *coll
	colls     map[int64]*coll
	objs      map[int64]*object
	users     map[int64]*user
	resources map[int64]*resource
	tickets   map[int64]*ticket
	fault     error // the first failure to write the log
}

// record is a line of the log: one of the entities as it now is, or an id that is gone.
type record struct {
	Coll     *coll     `json:",omitempty"`
	Object   *object   `json:",omitempty"`
	User     *user     `json:",omitempty"`
	Resource *resource `json:",omitempty"`
	Ticket   *ticket   `json:",omitempty"`
	Gone     int64     `json:",omitempty"`
}

// openCatalog reads the log, settles what a crash has left, and writes it anew.
func openCatalog(dir, zone string) (*catalog, error) {
	c := &catalog{
		dir: dir, zone: zone, lastID: 10000, colls: map[int64]*coll{}, objs: map[int64]*object{},
		users: map[int64]*user{}, resources: map[int64]*resource{}, tickets: map[int64]*ticket{},
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	if err := c.link(); err != nil {
		return nil, err
	}
	return c, c.rewrite()
}

func (c *catalog) path() string { return filepath.Join(c.dir, "catalog.log") }

// load reads the log. A last line that is cut short by a crash is dropped.
func (c *catalog) load() error {
	f, err := os.Open(c.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	var broken error
	for n := 1; lines.Scan(); n++ {
		if broken != nil {
			return broken
		}
		var rec record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			broken = fmt.Errorf("%s, line %d: %w", c.path(), n, err)
			continue
		}
		c.apply(&rec)
	}
	return lines.Err()
}

func (c *catalog) apply(rec *record) {
	switch {
	case rec.Coll != nil:
		c.colls[rec.Coll.ID] = rec.Coll
		c.seen(rec.Coll.ID, rec.Coll.AVUs)
	case rec.Object != nil:
		c.objs[rec.Object.ID] = rec.Object
		c.seen(rec.Object.ID, rec.Object.AVUs)
	case rec.User != nil:
		c.users[rec.User.ID] = rec.User
		c.seen(rec.User.ID, rec.User.AVUs)
	case rec.Resource != nil:
		c.resources[rec.Resource.ID] = rec.Resource
		c.seen(rec.Resource.ID, rec.Resource.AVUs)
	case rec.Ticket != nil:
		c.tickets[rec.Ticket.ID] = rec.Ticket
		c.seen(rec.Ticket.ID, nil)
	default:
		delete(c.colls, rec.Gone)
		delete(c.objs, rec.Gone)
		delete(c.users, rec.Gone)
		delete(c.tickets, rec.Gone)
		c.seen(rec.Gone, nil)
	}
}

// seen keeps ids from being given again.
func (c *catalog) seen(id int64, avus []avu) {
	c.lastID = max(c.lastID, id)
	for _, a := range avus {
		c.lastID = max(c.lastID, a.ID)
	}
}

// link builds the tree and turns replicas that were being written into stale ones.
func (c *catalog) link() error {
	for _, x := range c.colls {
		x.subs, x.objs = map[string]*coll{}, map[string]*object{}
	}
	for _, x := range c.colls {
		if x.ParentID == 0 {
			c.root = x
			continue
		}
		if x.parent = c.colls[x.ParentID]; x.parent == nil {
			return fmt.Errorf("%s: collection %d has no parent", c.path(), x.ID)
		}
		x.parent.subs[x.Name] = x
	}
	for _, o := range c.objs {
		if o.coll = c.colls[o.CollID]; o.coll == nil {
			return fmt.Errorf("%s: object %d has no collection", c.path(), o.ID)
		}
		o.coll.objs[o.Name] = o
		for _, r := range o.Replicas {
			if r.Status != good {
				r.Status = stale
			}
		}
	}
	if c.root == nil {
		c.root = &coll{ID: c.newID(), subs: map[string]*coll{}, objs: map[string]*object{}, Access: access{}}
		c.colls[c.root.ID] = c.root
	}
	return nil
}

// rewrite replaces the log by one without history.
func (c *catalog) rewrite() error {
	tmp, err := os.Create(c.path() + ".new")
	if err != nil {
		return err
	}
	c.log = tmp
	for _, x := range c.users {
		c.save(record{User: x})
	}
	for _, x := range c.resources {
		c.save(record{Resource: x})
	}
	for _, x := range c.colls {
		c.save(record{Coll: x})
	}
	for _, x := range c.objs {
		c.save(record{Object: x})
	}
	for _, x := range c.tickets {
		c.save(record{Ticket: x})
	}
	if c.fault != nil {
		return errors.Join(c.fault, tmp.Close())
	}
	return os.Rename(tmp.Name(), c.path())
}

// save appends a record. A failure is kept for Zone.Close.
func (c *catalog) save(rec record) {
	line, err := json.Marshal(rec)
	if err == nil {
		_, err = c.log.Write(append(line, '\n'))
	}
	if err != nil && c.fault == nil {
		c.fault = err
	}
}

func (c *catalog) close() error { return errors.Join(c.fault, c.log.Close()) }

func (c *catalog) newID() int64 {
	c.lastID++
	return c.lastID
}

// vault returns the directory of a resource.
func (c *catalog) vault(r *resource) string { return filepath.Join(c.dir, "vault", r.Name) }

// file returns where the bytes of a replica lie.
func (c *catalog) file(o *object, r *replica) string {
	name := strconv.FormatInt(o.ID, 10) + "." + strconv.Itoa(r.Num)
	return filepath.Join(c.vault(c.resources[r.Resc]), name)
}

// userNamed returns the user or group of that name, which may come with a zone.
func (c *catalog) userNamed(name string) *user {
	name, zone, _ := strings.Cut(name, "#")
	if zone == c.zone {
		zone = ""
	}
	for _, u := range c.users {
		if u.Name == name && u.Zone == zone {
			return u
		}
	}
	return nil
}

func (c *catalog) resourceNamed(name string) *resource {
	for _, r := range c.resources {
		if r.Name == name {
			return r
		}
	}
	return nil
}
