package cache

import (
	"path/filepath"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Listing is a complete directory as a server showed it.
type Listing struct {
	Dir string
	// Self is what the directory itself showed before it was listed, for example its
	// version; what it means is the caller's. Empty if that is not known.
	Self string
	// At is when the listing was asked for. It is zero if its age is not known any
	// more: then nothing but Self can prove that it is right.
	At      time.Time
	Entries []remote.Entry // of the directory, each with its whole Path
}

// Tree remembers the listings of one branch in a Store, over remounts. Its methods may
// be called from many goroutines, and on nil, which remembers nothing.
//
// For a mount, give it to fs.Branch.Tree beside Blocks, under the same name:
//
//	store, err := cache.Open(dir, options)
//	branch := fs.Branch{Blocks: store.Wrap(backend, policy), Tree: store.Tree(policy.Branch), ...}
//
// It needs no closing of its own; the Store is to be closed after the fs.FS.
//
// Nothing of it is precious: what is read from the disk is checked, what fails is
// missing, and a disk that is full or fails ends the remembering (Stats.Meta tells).
// What was remembered has the age zero after a Store that was not closed, and after a
// clock that was found to have gone back: it must be proven before it is used. What
// was forgotten by then does not come back as anything better than that.
type Tree struct {
	log    *metaLog // nil if there is none
	branch string
	seed   uint64
}

// Tree returns the metadata of a branch. The name is the same at every mount.
func (s *Store) Tree(branch string) *Tree {
	return &Tree{log: s.meta, branch: branch, seed: hashText(hashSeed, branch)}
}

// startMeta opens the metadata, which works without the blocks too.
func (s *Store) startMeta() {
	l, err := openMeta(filepath.Join(s.dir, metaDirName), s.slab.meta, s.spares, s.log)
	if err != nil {
		s.log.Warn("listings are not remembered", "dir", s.dir, "err", err)
		return
	}
	s.meta = l
}

// spares tells whether n bytes may be taken for metadata: those that are free, or that
// the blocks will give back.
func (s *Store) spares(n int64) bool {
	free, err := freeSpace(s.dir)
	if err != nil || free < n+margin {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return free-n >= s.opts.Reserve || len(s.slab.files) > 0
}

// Prepared is a listing that is ready to be saved.
type Prepared struct {
	dir  string
	at   time.Time
	body []byte
}

// Prepare encodes a listing. It keeps nothing of it.
func (t *Tree) Prepare(l Listing) Prepared {
	if t == nil || t.log == nil {
		return Prepared{}
	}
	return Prepared{l.Dir, l.At, encodeListing(t.branch, l)}
}

// Save remembers a listing, instead of what was known of its directory. It does not
// wait for the disk; if that does not follow, the listing is not remembered.
func (t *Tree) Save(p Prepared) {
	if t == nil || t.log == nil || p.body == nil {
		return
	}
	t.log.save(recordListing, t.key(p.dir), p.at, p.body)
}

// Load returns what is remembered of a directory.
func (t *Tree) Load(dir string) (Listing, bool) {
	if t == nil || t.log == nil {
		return Listing{}, false
	}
	r, body, ok := t.log.load(t.key(dir), t.line(dir))
	if !ok {
		return Listing{}, false
	}
	branch, l, err := decodeListing(body)
	if err != nil || branch != t.branch || l.Dir != dir {
		return Listing{}, false // the key of another
	}
	l.At = t.log.age(r)
	return l, true
}

// Forget forgets the listing of a directory. What is saved later counts again.
func (t *Tree) Forget(dir string) {
	if t != nil && t.log != nil {
		t.log.forget(recordForget, t.key(dir))
	}
}

// ForgetTree forgets the listings of a directory and of all below it.
func (t *Tree) ForgetTree(dir string) {
	if t != nil && t.log != nil {
		t.log.forget(recordPrune, t.key(dir))
	}
}

// SetMark remembers a small text of the branch. It is not remembered without what was
// forgotten before, so that it may say that something need not be known any more.
func (t *Tree) SetMark(name, value string) {
	if t == nil || t.log == nil {
		return
	}
	e := encoder{}
	e.text(t.branch)
	e.text(name)
	e.text(value)
	t.log.save(recordMark, t.markKey(name), time.Time{}, e.p)
}

// Mark returns the text that was set last, "" if there is none.
func (t *Tree) Mark(name string) string {
	if t == nil || t.log == nil {
		return ""
	}
	_, body, ok := t.log.load(t.markKey(name), nil)
	d := decoder{p: string(body)}
	branch, of, value := d.text(), d.text(), d.text()
	if !ok || d.err != nil || branch != t.branch || of != name {
		return ""
	}
	return value
}

// Keys are FNV-1a hashes: a key that belongs to two directories is harmless, as a
// record names its own.
const (
	hashSeed  = 14695981039346656037
	hashPrime = 1099511628211
)

func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h * hashPrime // an end
}

func (t *Tree) key(dir string) uint64 {
	line := t.line(dir)
	return line[len(line)-1]
}

// line returns the keys of all directories from the root to dir.
func (t *Tree) line(dir string) []uint64 {
	h := t.seed
	all := []uint64{h}
	for i := 1; i < len(dir); i++ {
		if dir[i] == '/' {
			all = append(all, h*hashPrime)
		}
		h = (h ^ uint64(dir[i])) * hashPrime
	}
	if len(dir) > 1 {
		all = append(all, h*hashPrime)
	}
	return all
}

// markKey cannot be the key of a directory, whose path holds no NUL.
func (t *Tree) markKey(name string) uint64 { return hashText(hashText(t.seed, "\x00mark"), name) }

// MetaStats are facts and counts of the metadata of a Store since Open.
type MetaStats struct {
	// On is false after the disk has failed, or if it was full from the start; Reason
	// says why.
	On     bool
	Reason string
	// Kept is the number of listings and marks that are remembered; Bytes is what the
	// files take, at most MaxBytes.
	Kept            int
	Bytes, MaxBytes int64
	Loads, Hits     int64
	Saves           int64
	Dropped         int64 // not remembered because the disk did not follow
	Corrupt         int64 // failed a check and were not returned
}
