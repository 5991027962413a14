package keep

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Bounds of what one call tidies up, and how long what is of no use is left for listings that
// are under way, by the server's clock.
const (
	sweeps      = 16       // files that are removed
	leastGain   = 64 << 10 // bytes that a compaction frees
	mostCarried = 64 << 20 // bytes that it carries
	settled     = 62 * time.Second
	graveTime   = 7 * 24 * time.Hour
)

// compacts tells whether archives are compacted: the server must see to it that there is only
// one generation of a number.
func (k *Backend) compacts() bool { return k.inner.Caps().Create == remote.GuardAtomic }

// upkeep rewrites one archive in which little is alive, and removes what is of no use any more.
// What fails is done by another call.
func (k *Backend) upkeep(ctx context.Context, dir string) {
	v := k.remembered(dir)
	if v == nil || ctx.Err() != nil {
		return
	}
	if k.compacts() {
		for _, h := range v.count {
			if !v.raw.ill[h.index.ID] && v.claimed(h) {
				k.compact(ctx, v, h)
				break
			}
		}
	}
	if useless := k.useless(v); len(useless) > 0 {
		_ = k.discardAll(ctx, useless)
	}
}

// claimed tells whether a compaction of the archive pays, once for each view.
func (v *view) claimed(h *held) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	pays := len(h.index.Members) > 0 && (h.alive == 0 || h.lost >= leastGain && h.lost > h.all/2 && h.all-h.lost <= mostCarried)
	pays = pays && !h.tried
	h.tried = h.tried || pays
	return pays
}

// compact carries what is alive of an archive to its next generation.
func (k *Backend) compact(ctx context.Context, v *view, h *held) {
	var items []archive.Item
	v.mu.Lock()
	for i := range h.index.Members {
		m := &member{&h.index.Members[i], h}
		if !v.dead[m.uid()] {
			items = append(items, archive.Item{Member: *m.Member, Source: &memberSource{ctx, k, m}})
		}
	}
	v.mu.Unlock()
	if _, err := k.succeed(ctx, v.dir, h, items); err == nil {
		k.forgetOnly(v.dir)
	}
}

// succeed puts the next generation of an archive. Only one can: a number is given once.
func (k *Backend) succeed(ctx context.Context, dir string, h *held, items []archive.Item) (remote.Entry, error) {
	head := archive.Index{ID: h.index.ID, Generation: h.index.Generation + 1, Born: h.born}
	a, err := archive.New(head, items)
	if err != nil {
		return remote.Entry{}, &remote.Error{Op: "compact", Path: dir, Kind: remote.Unsupported, Err: err}
	}
	path := remote.Join(dir, head.ID.FileName(head.Generation))
	return k.inner.Put(ctx, path, a, remote.PutOptions{Cond: remote.Cond{NotExist: true}})
}

// useless returns files of ours that are of no use any more, and have been long enough for
// every listing to know, once for each view.
func (k *Backend) useless(v *view) (all []remote.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.swept || v.raw.clock.IsZero() {
		return nil
	}
	v.swept = true
	counts := map[archive.ID]*held{}
	for _, h := range v.count {
		counts[h.index.ID] = h
	}
	tombs := map[archive.ID]int{}
	for uid := range v.raw.tombs {
		tombs[uid.Archive]++
	}
	for uid, e := range v.raw.tombs {
		if v.isUseless(uid, e, counts[uid.Archive]) {
			all = append(all, e)
		}
	}
	for id, h := range counts {
		all = append(all, k.spent(v, h, v.raw.files[id], tombs[id])...)
	}
	return all[:min(len(all), sweeps)]
}

// age is how much older than the newest a file is.
func (v *view) age(e remote.Entry) time.Duration {
	if e.MTime.IsZero() {
		return 0
	}
	return v.raw.clock.Sub(e.MTime)
}

// isUseless tells whether a tombstone is of no use, h being what counts of its archive.
func (v *view) isUseless(uid archive.UID, e remote.Entry, h *held) bool {
	switch {
	case v.raw.ill[uid.Archive]:
		return false
	case h == nil: // an upload may yet come
		return len(v.raw.files[uid.Archive]) == 0 && v.age(e) >= graveTime
	}
	return v.byUID[uid] == nil && len(v.raw.files[uid.Archive]) == 1 && v.age(h.entry) >= settled && v.age(e) >= settled
}

// spent returns the files of an archive that are of no use, of which h counts.
func (k *Backend) spent(v *view, h *held, files []generation, tombs int) (all []remote.Entry) {
	if v.raw.ill[h.index.ID] {
		return nil
	}
	if v.age(h.entry) >= settled {
		for _, g := range files {
			if g.number < h.index.Generation {
				all = append(all, g.entry)
			}
		}
	}
	switch {
	case len(files) > 1:
	case len(h.index.Members) == 0 && tombs == 0 && v.age(h.entry) >= graveTime,
		len(h.index.Members) > 0 && h.alive == 0 && !k.compacts() && v.oldTombs(h):
		all = append(all, h.entry)
	}
	return all
}

// oldTombs tells whether all tombstones of an archive are known to every listing. v.mu is held.
func (v *view) oldTombs(h *held) bool {
	for i := range h.index.Members {
		e, ok := v.raw.tombs[archive.UID{Archive: h.index.ID, Number: h.index.Members[i].Number}]
		if !ok || v.age(e) < settled {
			return false
		}
	}
	return true
}
