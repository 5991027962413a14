package prefetch

import "slices"

// Bounds of Walk's judgement.
const (
	walkProof = 3       // listings of directories just seen that prove a walk
	walkBatch = 8       // listings ahead at first: from 2, a tree of 100 directories takes two round trips more
	walkKnown = 1 << 14 // directories that are remembered
	walkDepth = 16      // listings that nobody has asked for yet, for each that may be on its way
)

// walkState is what is known of a directory that was seen and not asked for yet.
type walkState uint8

const (
	walkSeen    walkState = iota
	walkIssued            // Next has returned it
	walkArrived           // and its listing is there
)

// Walk sees that a tree is being walked (find, ls -R, tar), from the listings asked for,
// and says which directories to list next, so that several listings run at once. It is
// a pure struct without lock or clock, for one branch. Directories go by their paths.
type Walk struct {
	most  int // listings on their way ahead
	batch int
	run   int
	// todo has the directories that were seen but not asked for yet, those that a walk
	// in depth comes to first at the end.
	todo   []string
	issued map[string]walkState // of the directories in todo
	ahead  int                  // of these, how many were returned
	flying int                  // of these, how many have not arrived
}

// NewWalk returns the state for a branch; at most most listings are ahead.
func NewWalk(most int) *Walk {
	return &Walk{most: max(most, 1), batch: walkBatch, issued: map[string]walkState{}}
}

// Asked takes note that somebody lists dir. stalled says that the listing was not there
// yet: the number of listings ahead doubles on that, and only then. A directory that
// no listing has just shown ends the walk.
func (w *Walk) Asked(dir string, stalled bool) {
	_, known := w.issued[dir]
	if !known {
		w.run, w.batch, w.ahead, w.flying = 1, min(walkBatch, w.most), 0, 0
		w.todo = w.todo[:0]
		clear(w.issued)
		return
	}
	if w.run++; w.Active() && stalled {
		w.batch = min(2*w.batch, w.most)
	}
	w.forget(dir)
	if i := w.find(dir); i >= 0 {
		w.todo = slices.Delete(w.todo, i, i+1)
	}
}

// Listed takes note of the directories that a listing of dir has shown, in the order in
// which a walk will come to them, whether somebody asked for it or Next did. Listings
// that belong to no walk that Asked knows of are ignored.
func (w *Walk) Listed(dir string, children []string) {
	if w.run == 0 {
		return
	}
	if w.issued[dir] == walkIssued {
		w.issued[dir] = walkArrived
		w.flying--
	}
	at := len(w.todo)
	if i := w.find(dir); i >= 0 {
		at = i // not asked for yet: its children come after it, before its siblings
	}
	fresh := make([]string, 0, len(children))
	for _, c := range slices.Backward(children) {
		if _, known := w.issued[c]; !known && len(w.issued) < walkKnown {
			w.issued[c] = walkSeen
			fresh = append(fresh, c)
		}
	}
	w.todo = slices.Insert(w.todo, at, fresh...)
}

// find returns the place of dir in todo, or -1. A walk in depth finds it near the end.
func (w *Walk) find(dir string) int {
	for i, d := range slices.Backward(w.todo) {
		if d == dir {
			return i
		}
	}
	return -1
}

// Active tells whether a tree is being walked at present.
func (w *Walk) Active() bool { return w.run >= walkProof }

// Next returns the directories to list now, the soonest needed first; each is returned
// once. A walk may take another order than that of the listing (ls -R sorts): so listings
// that have arrived do not keep others from being asked for, up to a bound. Without a walk
// it returns none.
func (w *Walk) Next() []string {
	if !w.Active() {
		return nil
	}
	var found []string
	for _, dir := range slices.Backward(w.todo) {
		if w.flying >= min(w.batch, w.most) || w.ahead >= walkDepth*w.most {
			break
		}
		if w.issued[dir] == walkSeen {
			w.issued[dir] = walkIssued
			w.ahead++
			w.flying++
			found = append(found, dir)
		}
	}
	return found
}

// forget takes a directory out of the counts.
func (w *Walk) forget(dir string) {
	switch w.issued[dir] {
	case walkIssued:
		w.ahead--
		w.flying--
	case walkArrived:
		w.ahead--
	}
	delete(w.issued, dir)
}

// Failed takes note that a listing that Next returned has failed: it will not be
// returned again.
func (w *Walk) Failed(dir string) {
	if w.issued[dir] == walkIssued {
		w.forget(dir)
		if i := w.find(dir); i >= 0 {
			w.todo = slices.Delete(w.todo, i, i+1)
		}
	}
}
