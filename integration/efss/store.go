package efss

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// What the store answers when a change cannot be made. The handlers know how each
// dialect says so.
var (
	errNotFound = errors.New("no such file or directory")
	errNoParent = errors.New("the parent collection does not exist")
	errNotDir   = errors.New("not a collection")
	errIsDir    = errors.New("is a collection")
	errExists   = errors.New("exists already")
	errInside   = errors.New("a collection cannot be moved or copied into itself")
	errSame     = errors.New("source and destination are the same")
)

// store keeps the users' trees: the catalog in memory and in its log, the bytes on
// disk.
type store struct {
	dir string
	b   *behaviour
	now func() time.Time
	log *slog.Logger

	mu       sync.RWMutex
	roots    map[string]*node  // by user
	secrets  map[string]string // hash of an app password -> user
	instance string
	lastID   int64
	lastUniq int64
	journal  *journal
}

// openStore loads the catalog below dir and settles it against the disk.
func openStore(dir string, users []string, b *behaviour, now func() time.Time, log *slog.Logger) (*store, error) {
	s := &store{dir: dir, b: b, now: now, log: log, roots: map[string]*node{}, secrets: map[string]string{}}
	if err := s.makeDirs(users); err != nil {
		return nil, err
	}
	if err := readJournal(s.catalogPath(), s.replay()); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if s.instance == "" {
		s.instance = "oc" + strings.ToLower(rand.Text()[:10])
	}
	for _, u := range users {
		if s.roots[u] == nil {
			s.roots[u] = s.newNode(true)
			s.roots[u].name = u
		}
		if _, err := s.scan(u); err != nil {
			return nil, err
		}
	}
	j, err := writeJournal(s.catalogPath(), s.dump)
	s.journal = j
	return s, err
}

func (s *store) catalogPath() string { return filepath.Join(s.dir, "catalog.log") }
func (s *store) tmpDir() string      { return filepath.Join(s.dir, "tmp") }

// userDir is where the plain files of a user lie.
func (s *store) userDir(user string) string { return filepath.Join(s.dir, "files", user) }

// disk is the place of a file or directory on disk. path is clean and rooted.
func (s *store) disk(user, path string) string {
	return s.userDir(user) + strings.TrimSuffix(path, "/")
}

func (s *store) makeDirs(users []string) error {
	if err := os.RemoveAll(s.tmpDir()); err != nil {
		return err
	}
	dirs := []string{s.tmpDir(), filepath.Join(s.dir, "tus")}
	for _, u := range users {
		dirs = append(dirs, s.userDir(u), filepath.Join(s.dir, "uploads", u))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// replay returns a function that applies the log's records in their order.
func (s *store) replay() func(*record) {
	byID := map[int64]*node{}
	return func(r *record) {
		s.lastID = max(s.lastID, r.ID)
		switch r.Op {
		case "":
			s.replayNode(byID, r)
		case opRemove:
			if n := byID[r.ID]; n != nil {
				n.detach()
			}
		case opInstance:
			s.instance = r.Text
		case opSecret:
			s.secrets[r.Text] = r.User
		case opRevoke:
			delete(s.secrets, r.Text)
		}
	}
}

func (s *store) replayNode(byID map[int64]*node, r *record) {
	n := byID[r.ID]
	if n == nil {
		n = &node{}
		byID[r.ID] = n
	}
	n.detach()
	size := n.Size
	n.attrs = r.attrs()
	if n.Dir {
		n.Size = size
	}
	if r.Parent == 0 {
		n.name = r.User
		s.roots[r.User] = n
		return
	}
	if parent := byID[r.Parent]; parent != nil {
		n.attach(parent, r.name())
	}
}

// dump sends the whole catalog, parents before children.
func (s *store) dump(send func(record)) {
	send(record{Op: opInstance, ID: s.lastID, Text: s.instance})
	for hash, user := range s.secrets {
		send(record{Op: opSecret, User: user, Text: hash})
	}
	var walk func(user string, n *node)
	walk = func(user string, n *node) {
		send(n.record(user))
		for _, c := range n.children {
			walk(user, c)
		}
	}
	for user, root := range s.roots {
		walk(user, root)
	}
}

// close ends the log. The store is not used afterwards.
func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.close()
}

// newNode makes an entry with an id and versions of its own. Call with mu held.
func (s *store) newNode(dir bool) *node {
	s.lastID++
	t := s.stampTime()
	n := &node{attrs: attrs{ID: s.lastID, Dir: dir, MTime: t, Created: t}}
	if dir {
		s.b.stampDir(s, n)
	}
	return n
}

// stampTime is the time that a change gets now, cut to what the dialect's storage
// resolves.
func (s *store) stampTime() time.Time {
	return time.Unix(0, s.now().UnixNano()).Truncate(s.b.tick)
}

// uniqid is PHP's function of that name: microseconds in 13 hex digits. No two calls
// return the same. Call with mu held.
func (s *store) uniqid() string {
	us := max(s.now().UnixMicro(), s.lastUniq+1)
	s.lastUniq = us
	return fmt.Sprintf("%08x%05x", us/1e6, us%1e6)
}

// lookup returns what is at path.
func (s *store) lookup(user, path string) (info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.roots[user].find(path)
	if n == nil {
		return info{}, errNotFound
	}
	return n.info(path), nil
}

// parentOf returns the collection that path would be made in: errNoParent or
// errNotDir.
func (s *store) parentOf(user, path string) (info, error) {
	dir, _ := splitPath(path)
	p, err := s.lookup(user, dir)
	switch {
	case err != nil:
		return p, errNoParent
	case !p.Dir:
		return p, errNotDir
	}
	return p, nil
}

// open returns the file at path for reading, with its entry as of the same moment.
func (s *store) open(user, path string) (*os.File, info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.roots[user].find(path)
	if n == nil {
		return nil, info{}, errNotFound
	}
	if n.Dir {
		return nil, n.info(path), errIsDir
	}
	f, err := os.Open(s.disk(user, path))
	if errors.Is(err, fs.ErrNotExist) {
		err = errNotFound
	}
	return f, n.info(path), err
}

// children returns the entries of a directory in the order of their ids. The nodes
// are looked at through infoOf only.
func (s *store) children(user, path string) []*node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.roots[user].find(path)
	if n == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(n.children), func(a, b *node) int { return int(a.ID - b.ID) })
}

// infoOf copies a node that children returned. It is false if the node is no longer
// below the directory at path.
func (s *store) infoOf(n *node, dir string) (info, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return n.info(joinPath(dir, n.name)), n.parent != nil
}

// used returns the bytes that a user's files take.
func (s *store) used(user string) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.roots[user].Size
}

// spool opens a new file for a body that is being received.
func (s *store) spool() (*os.File, error) { return os.CreateTemp(s.tmpDir(), "body-*") }
