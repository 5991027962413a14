package webdav

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// witnesses remember what listings have shown, where the tag of a directory changes with
// anything below it: if a directory still has the tag that it had before its listing, all is
// there as it was listed, and if the tags of the directories in it were those before their
// listings, all below them is, too. Of each only a sum is kept. What a server is not told of
// (another program writes into its storage) changes no tag until it is found.
type witnesses struct {
	mu         sync.Mutex         // guards what follows
	young, old map[string]witness // by path; old is dropped when young is full
}

// witness is one listing.
type witness struct {
	tag string // of the directory, as it stood before the entries
	sum listSum
}

// maxWitnesses bounds young and old.
const maxWitnesses = 10_000

// listSum is a sum over the entries of a directory, in any order.
type listSum [4]uint64

// add takes up one entry. version is the tag of a directory.
func (s *listSum) add(name string, dir bool, version string) {
	line := make([]byte, 0, 128)
	if dir {
		line = append(line, 'd')
	} else {
		line = append(line, 'f')
	}
	line = append(append(append(line, name...), 0), version...)
	h := sha256.Sum256(line)
	for i := range s {
		s[i] += binary.BigEndian.Uint64(h[8*i:])
	}
}

// keep remembers a listing.
func (w *witnesses) keep(dir string, one witness) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.young == nil || len(w.young) >= maxWitnesses {
		w.young, w.old = map[string]witness{}, w.young
	}
	w.young[dir] = one
	delete(w.old, dir)
}

// of returns the last listing of a directory.
func (w *witnesses) of(dir string) (witness, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one, ok := w.young[dir]
	if !ok {
		one, ok = w.old[dir]
	}
	return one, ok
}

// whole returns the tags of those directories among the known that had all below them, and
// nothing else, when they had these tags.
func (w *witnesses) whole(known []remote.Known) map[string]string {
	var dirs []string
	sums := map[string]*listSum{}
	in := func(path string) *listSum {
		up, _ := remote.Split(path)
		s := sums[up]
		if s == nil {
			s = &listSum{}
			sums[up] = s
		}
		return s
	}
	for _, k := range known {
		if k.Type == remote.Dir {
			dirs = append(dirs, k.Path)
			continue
		}
		_, name := remote.Split(k.Path)
		in(k.Path).add(name, false, k.Version)
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(b, a) }) // what is below another one first
	whole := map[string]string{}
	for _, dir := range dirs {
		var sum listSum
		if s := sums[dir]; s != nil {
			sum = *s
		}
		one, ok := w.of(dir)
		if !ok || one.sum != sum {
			continue // the sum of the directory around it will not be right either
		}
		whole[dir] = one.tag
		_, name := remote.Split(dir)
		in(dir).add(name, true, one.tag)
	}
	return whole
}

// testify adds an entry to the witness that a listing makes. From what cannot be part of one
// on there is none: another's storage that is mounted there need not tell of changes.
func (l *listing) testify(name string, f *found, r *response) {
	switch {
	case l.sum == nil:
	case l.self.Type == 0, f.Type == remote.Dir && (f.tag == "" || strings.Contains(r.props.perms, "M")):
		l.sum = nil
	case f.Type == remote.Dir:
		l.sum.add(name, true, f.tag)
	default:
		l.sum.add(name, false, f.Version)
	}
}
