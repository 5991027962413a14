package prefetch

import (
	"cmp"
	"slices"
)

// Bounds of DirAhead's judgement.
const (
	dirProof = 3        // opens in order that prove the pattern
	dirSkip  = 16       // files that an open may leave out, or come late by
	dirBatch = 8        // files ahead at first
	dirBytes = 16 << 20 // bytes ahead at most, one file aside
	dirEarly = 1 << 20  // bytes before the first open
)

// File is a file of a directory as a listing shows it.
type File struct {
	Name string
	Size int64 // bytes
}

// DirAhead sees that the files of one directory are being opened one after the other,
// in the order of the listing or of the names, and says which small ones to fetch next,
// whole. It is a pure struct without lock or clock, for one directory.
type DirAhead struct {
	small  int64 // the largest file that is fetched whole
	most   int   // files ahead
	worth  int   // files that are fetched, all in all
	orders [2]dirOrder
	// issued has the files that were returned by Open, and whether they were opened.
	issued map[string]bool
}

// dirOrder is one order of the files and how far the opens have followed it.
type dirOrder struct {
	files []File
	at    map[string]int
	high  int // the farthest open; -1 before the first
	front int // files before it were considered
	run   int // opens in a row that followed the order, and what Expect has lent
	own   int // opens in a row that followed the order
	batch int // files to be ahead
}

// NewDirAhead returns the state for a directory with the given files, in the order of
// its listing. Files up to small bytes are fetched, at most most at a time.
func NewDirAhead(listing []File, small int64, most int) *DirAhead {
	byName := slices.SortedFunc(slices.Values(listing), func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	d := &DirAhead{
		small: small, most: max(most, 1), issued: map[string]bool{},
		orders: [2]dirOrder{newDirOrder(listing), newDirOrder(byName)},
	}
	for _, f := range listing {
		if d.fetches(f) {
			d.worth++
		}
	}
	return d
}

func newDirOrder(files []File) dirOrder {
	o := dirOrder{files: files, at: make(map[string]int, len(files)), high: -1, batch: dirBatch}
	for i, f := range files {
		o.at[f.Name] = i
	}
	return o
}

// Open takes note that a file is opened and returns the files to fetch now, the soonest
// needed first; each is returned once. stalled says that the content was not there yet:
// the number of files ahead doubles on that, and only then. It halves when most of what
// was passed by had been fetched for nothing.
func (d *DirAhead) Open(name string, stalled bool) []File {
	if _, ok := d.issued[name]; ok {
		d.issued[name] = true
	}
	var best *dirOrder
	for i := range d.orders {
		o := &d.orders[i]
		if o.follow(name) && (best == nil || o.run > best.run) {
			best = o
		}
	}
	if best == nil {
		return nil
	}
	d.adapt(best, stalled)
	return d.next(best)
}

// Expect says that the directory will probably be read in order, as others just were, with
// the given number of files ahead: the first open is proof enough then.
func (d *DirAhead) Expect(batch int) {
	for i := range d.orders {
		o := &d.orders[i]
		o.run, o.batch = max(o.run, dirProof-1), max(o.batch, min(batch, d.most))
	}
}

// Begin returns what to fetch before the first open, if the directory will probably be
// read as others just were: files in the order of the listing, batch of them at most.
func (d *DirAhead) Begin(batch int) []File {
	d.Expect(batch)
	o := &d.orders[0]
	found := d.next(o)
	for i, bytes := 0, int64(0); i < len(found); i++ {
		if bytes += found[i].Size; bytes > dirEarly {
			for _, f := range found[i:] {
				delete(d.issued, f.Name)
			}
			o.front = o.at[found[i].Name]
			return found[:i]
		}
	}
	return found
}

// Proven tells whether the opens of this directory alone follow an order: as many as it
// takes, or all that its small files allow.
func (d *DirAhead) Proven() bool {
	return max(d.orders[0].own, d.orders[1].own) >= min(dirProof, max(d.worth, 1))
}

// Batch returns how many files are to be ahead.
func (d *DirAhead) Batch() int { return max(d.orders[0].batch, d.orders[1].batch) }

// Active tells whether the opens follow an order at present.
func (d *DirAhead) Active() bool {
	return d.orders[0].run >= dirProof || d.orders[1].run >= dirProof
}

// follow moves the order by an open, and tells whether the pattern is proven. Several
// programs or threads may open files at once, so that some come a little late.
func (o *dirOrder) follow(name string) bool {
	i, ok := o.at[name]
	if !ok {
		return false
	}
	switch step := i - o.high; {
	case o.high >= 0 && step > dirSkip, o.high >= 0 && step < -dirSkip:
		o.run, o.own, o.batch = 1, 1, dirBatch
		o.high, o.front = i, i+1
	case step > 0:
		o.run++
		o.own++
		o.high, o.front = i, max(o.front, i+1)
	}
	return o.run >= dirProof
}

// adapt changes the number of files ahead.
func (d *DirAhead) adapt(o *dirOrder, stalled bool) {
	passed, unused := 0, 0
	for _, f := range o.files[max(0, o.high-2*dirSkip):max(0, o.high-dirSkip)] {
		if opened, ok := d.issued[f.Name]; ok {
			passed++
			if !opened {
				unused++
			}
		}
	}
	switch {
	case passed >= dirSkip/2 && unused > passed/2:
		o.batch = max(o.batch/2, 1)
	case stalled:
		o.batch = min(2*o.batch, d.most)
	}
}

// fetches tells whether a file is one to be fetched whole.
func (d *DirAhead) fetches(f File) bool { return f.Size > 0 && f.Size <= d.small }

// next returns the small files that are not farther ahead than the batch.
func (d *DirAhead) next(o *dirOrder) []File {
	ahead, bytes := 0, int64(0)
	for _, f := range o.files[o.high+1 : o.front] {
		if opened, ok := d.issued[f.Name]; ok && !opened {
			ahead++
			bytes += f.Size
		}
	}
	var found []File
	for ; o.front < len(o.files) && ahead < min(o.batch, d.most) && bytes < dirBytes; o.front++ {
		f := o.files[o.front]
		if _, ok := d.issued[f.Name]; ok || !d.fetches(f) {
			continue
		}
		d.issued[f.Name] = false
		found = append(found, f)
		ahead++
		bytes += f.Size
	}
	return found
}
