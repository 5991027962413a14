package irods

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// fingerprint is a hash, or a sum of such, of which printBits count.
type fingerprint uint64

const printBits = 1<<48 - 1

func hashOf(text string) fingerprint {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // a hash takes everything
	return fingerprint(h.Sum64())
}

// rowPrint is the fingerprint of the present row of an answer.
func rowPrint(number int, c *cursor) fingerprint {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(number)})
	for _, r := range c.out.Results {
		_, _ = h.Write(append([]byte(r.Values[c.row]), 0))
	}
	return fingerprint(h.Sum64())
}

// stamp is a time as the catalog has it.
func stamp(seconds int64) string { return fmt.Sprintf("%011d", max(seconds, 0)) }

// trackMark is what the next call needs to know of a call.
type trackMark struct {
	large bool
	since int64 // what has an earlier time is not asked for; only of a large tree
	id    int64 // the highest identifier of objects; only of a large tree
	// prints are of each collection in a small tree, and of those with a time since
	// since in a large one.
	prints map[fingerprint]kept // by the hash of the path
}

// kept is a fingerprint of an earlier call.
type kept struct {
	sum fingerprint
	// young is when it was first seen, in seconds of our clock, as long as something else
	// may come under the same times; 0 later.
	young uint32
}

// compare tells what has changed.
func (t *tracking) compare() remote.Changes {
	var c remote.Changes
	border := min(t.newest, t.b.clock.now().Unix()) - int64(settling/time.Second)
	seen := uint32(time.Now().Unix() + 1)
	next := trackMark{large: t.large, since: t.old.since, id: max(t.old.id, t.lastID), prints: map[fingerprint]kept{}}
	tell := func(path string) {
		if rel := t.rel(path); t.b.check("changed", rel) == nil {
			c.Dirs = append(c.Dirs, rel)
		}
	}
	for path, p := range t.prints {
		key, now := hashOf(path)&printBits, kept{sum: p.sum & printBits}
		old, ok := t.old.prints[key]
		switch {
		case !t.known:
			if p.newest >= border {
				now.young = seen
			}
		case !ok || old.sum != now.sum:
			now.young = seen
			tell(path)
		case old.young != 0:
			if t.begun.Unix()-int64(old.young) < int64(settling/time.Second) {
				now.young = old.young
			}
			tell(path)
		}
		next.prints[key] = now
	}
	for _, path := range t.news {
		if t.prints[path] == nil {
			tell(path)
		}
	}
	if t.large && len(next.prints) > mostKept {
		next.since, next.prints = max(next.since, t.horizon(t.newest)), nil
	}
	c.Mark = next.text(t.dir)
	return c
}

// horizon is a time that no change from now on is given, by the latest of all times in
// the tree: the server's clock is past that, unless a client has set it.
func (t *tracking) horizon(newest int64) int64 {
	return max(min(newest, t.b.clock.now().Unix())-int64(slack/time.Second), 0)
}

// startLarge begins anew with a tree that is too large for fingerprints of everything.
func (t *tracking) startLarge(ctx context.Context) (remote.Changes, error) {
	t.large = false // no times in the questions
	objects, colls := t.question(0), t.question(0)
	objects.fold(wire.SelectMax, wire.ColDataModifyTime, wire.ColDataID)
	colls.fold(wire.SelectMax, wire.ColCollModifyTime)
	here := t.existence()
	if err := begin(ctx, t.s, objects.cursor, colls.cursor, here.cursor); err != nil {
		return remote.Changes{}, err
	}
	if !here.step() {
		return remote.Changes{}, t.missing()
	}
	next := trackMark{large: true, id: t.old.id}
	var newest int64
	for _, q := range []*trackQuestion{objects, colls} {
		for q.step() {
			at, err := newestOf(q.cursor)
			if err != nil {
				return remote.Changes{}, err
			}
			newest = max(newest, at)
			if q == colls {
				continue
			}
			id, err := q.number(wire.ColDataID)
			if err != nil {
				return remote.Changes{}, err
			}
			next.id = max(next.id, id)
		}
	}
	next.since = t.horizon(newest)
	return remote.Changes{All: true, Mark: next.text(t.dir)}, nil
}

// markVersion begins every mark. It changes with the form, and with what is asked.
const markVersion = 1

// text returns the mark for the caller.
func (m *trackMark) text(dir string) string {
	b := []byte{markVersion, 0}
	if m.large {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(hashOf(dir)))
	b = binary.BigEndian.AppendUint64(b, uint64(m.since))
	b = binary.BigEndian.AppendUint64(b, uint64(m.id))
	keys := make([]fingerprint, 0, len(m.prints))
	for key := range m.prints {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		p := m.prints[key]
		b = binary.BigEndian.AppendUint64(b, uint64(key)<<16|uint64(p.sum)>>32)
		b = binary.BigEndian.AppendUint32(b, uint32(p.sum))
		b = binary.BigEndian.AppendUint32(b, p.young)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// readTrackMark reads a mark about dir. ok is false if it is none.
func readTrackMark(text, dir string) (m trackMark, ok bool) {
	const head, entry = 2 + 3*8, 2 * 8
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < head || (len(b)-head)%entry != 0 || b[0] != markVersion || b[1] > 1 {
		return m, false
	}
	number := func() uint64 {
		n := binary.BigEndian.Uint64(b)
		b = b[8:]
		return n
	}
	m.large = b[1] == 1
	b = b[2:]
	if number() != uint64(hashOf(dir)) {
		return m, false
	}
	m.since, m.id = int64(number()), int64(number())
	m.prints = make(map[fingerprint]kept, len(b)/entry)
	for len(b) > 0 {
		first, second := number(), number()
		sum := first&0xffff<<32 | second>>32
		m.prints[fingerprint(first>>16)] = kept{sum: fingerprint(sum), young: uint32(second)}
	}
	return m, true
}
