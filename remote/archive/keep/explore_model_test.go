package keep_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// exploreModel is what clients were told, from which follows what may be on the server. Each
// content is written once only, so that it can be followed wherever it goes.
type exploreModel struct {
	contents []*known
	byText   map[string]*known
	versions map[string]*known // by path and version
	sweeps   []sweep
	swaps    []swap
	moves    []move
}

// known is one content.
type known struct {
	number   int
	text     string
	when     time.Time // its modification time
	names    []string  // under which it may be
	past     []string  // under which it was
	stored   bool      // somebody was told that it is
	since    int       // when that was
	maybe    bool      // somebody was told that it may be
	kills    []*act    // that may have removed it
	carriers []*act    // that may have put it somewhere
}

// act is something that an errand has done to a content, or has tried to do.
type act struct {
	errand *errand
	put    bool // it was to store the content
	sweep  bool // it converts all of a directory
	sure   bool // it is known that it was about this content
	state  actState
}

type actState int

const (
	running actState = iota
	done
	unsure
	nothing // it is certain that it did nothing
)

// sweep is a conversion of all files of a directory.
type sweep struct {
	errand *errand
	dir    string
}

// move is a rename of a file, of whatever it may be then; or something else that concerns
// whatever is at a path, without to.
type move struct {
	errand   *errand
	from, to string
}

// swap is one content that was to take the place of another.
type swap struct{ old, young *known }

const never = math.MaxInt

// over returns when an errand can have no effect any more.
func (e *errand) over() int {
	if e.overAt == 0 {
		return never
	}
	return e.overAt
}

// close notes that an errand is over, if nothing of it is on the way.
func (e *errand) close(clock int) {
	if e.ended && e.late == 0 {
		e.overAt = clock
	}
}

// overlap tells whether two errands may have met.
func (e *errand) overlap(f *errand) bool { return e != f && e.start <= f.over() && f.start <= e.over() }

// counts tells whether something may have been done.
func (a *act) counts() bool { return a.state != nothing }

// named tells whether what has that name may show at path.
func named(name, path string) bool {
	return name == path || strings.HasPrefix(path, name+".conflict-")
}

// mayBeAt tells whether a content may show at path.
func (c *known) mayBeAt(path string) bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return named(name, path) })
}

// wasAt tells whether a content may show at path, or has shown there.
func (c *known) wasAt(path string) bool {
	return c.mayBeAt(path) || slices.ContainsFunc(c.past, func(name string) bool { return named(name, path) })
}

// hasMoved tells whether somebody may be giving a content the name path.
func (m *exploreModel) hasMoved(c *known, path string) bool {
	return slices.ContainsFunc(m.moves, func(r move) bool { return r.to != "" && named(r.to, path) && c.wasAt(r.from) })
}

// aimedAt tells whether somebody may have moved or replaced a content since a time without
// knowing it.
func (m *exploreModel) aimedAt(c *known, from int) bool {
	return slices.ContainsFunc(m.moves, func(r move) bool {
		return r.errand.over() > from && (c.mayBeAt(r.from) || c.mayBeAt(r.to))
	})
}

// contested tells whether another content had or got one of the names of a content since a
// time. Then it may have had another name for a while.
func (m *exploreModel) contested(c *known, from int) bool {
	recent := func(a *act) bool { return a.errand == nil || a.errand.over() > from }
	return slices.ContainsFunc(m.contents, func(d *known) bool {
		return d != c && slices.ContainsFunc(d.names, c.mayBeAt) &&
			(slices.ContainsFunc(d.carriers, recent) || slices.ContainsFunc(d.kills, recent))
	})
}

// addName adds a name under which it may be.
func (c *known) addName(name string) {
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
}

// at returns the contents that may show at path.
func (m *exploreModel) at(path string) (all []*known) {
	for _, c := range m.contents {
		if c.mayBeAt(path) {
			all = append(all, c)
		}
	}
	return all
}

// below returns the contents that may be in a directory or below it.
func (m *exploreModel) below(dir string) (all []*known) {
	for _, c := range m.contents {
		if slices.ContainsFunc(c.names, func(name string) bool { return remote.Within(name, dir) }) {
			all = append(all, c)
		}
	}
	return all
}

// weakly notes that an act may have removed whatever may be at path, but one.
func (m *exploreModel) weakly(a *act, path string, but *known) {
	for _, c := range m.at(path) {
		if c != but && !slices.Contains(c.kills, a) {
			c.kills = append(c.kills, a)
		}
	}
}

// landed notes the effect of a late request that is bound to no version.
func (m *exploreModel) landed(l lateRequest) {
	a := &act{errand: l.errand, state: unsure}
	switch c := l.call; {
	case c.Op == remote.OpRename:
		m.weakly(a, c.To, nil)
		m.moved(a, c.Path, c.To)
	case c.Op == remote.OpPut && c.Put.Cond == (remote.Cond{}), c.Op == remote.OpRemove && c.Remove.Version == "":
		m.weakly(a, c.Path, nil)
	}
}

// moved notes that an act gives another name to what is at a path or below it.
func (m *exploreModel) moved(a *act, from, to string) {
	for _, c := range m.below(from) {
		if !slices.Contains(c.carriers, a) {
			c.carriers = append(c.carriers, a)
		}
		for _, name := range slices.Clone(c.names) {
			if remote.Within(name, from) {
				c.addName(to + strings.TrimPrefix(name, from))
			}
		}
	}
}

// mustShow tells whether nothing can excuse that a content is missing.
func (c *known) mustShow() bool {
	return c.stored && !slices.ContainsFunc(c.kills, (*act).counts)
}

// handled returns what errands may have put a content where it is, those of sweeps included.
func (m *exploreModel) handled(c *known) (all []*act) {
	for _, a := range c.carriers {
		if a.counts() {
			all = append(all, a)
		}
	}
	for _, s := range m.sweeps {
		if slices.ContainsFunc(c.names, func(name string) bool { return remote.Within(name, s.dir) }) {
			all = append(all, &act{errand: s.errand, state: unsure, sweep: true})
		}
	}
	return all
}

// mayReturn tells whether a content may show although an act has removed it: something that
// puts it there was on the way at the same time, or has stored it again, or it was there twice.
func (m *exploreModel) mayReturn(c *known, kill *act) bool {
	return m.mayDouble(c) || slices.ContainsFunc(m.handled(c), func(a *act) bool {
		if a.put {
			return !c.putOnce() && a.errand.over() > kill.errand.start
		}
		return a.errand == nil || kill.errand.overlap(a.errand)
	})
}

// swept tells whether a content may have been packed or unpacked.
func (m *exploreModel) swept(c *known) bool {
	return slices.ContainsFunc(m.handled(c), func(a *act) bool { return a.sweep })
}

// taken tells whether somebody may have moved a content while it was stored, before whoever
// stored it took it back.
func (m *exploreModel) taken(c *known) bool {
	all := m.handled(c)
	return slices.ContainsFunc(c.carriers, func(put *act) bool {
		return put.put && slices.ContainsFunc(all, func(a *act) bool {
			return !a.put && (a.errand == nil || a.errand.overlap(put.errand))
		})
	})
}

// putOnce tells whether the first Put of a content has stored it.
func (c *known) putOnce() bool {
	puts := 0
	for _, a := range c.carriers {
		if a.put {
			puts++
		}
	}
	return puts == 1 && c.stored
}

// mayDouble tells whether a content may show twice: something that moves it was cut off or
// met another.
func (m *exploreModel) mayDouble(c *known) bool {
	all := m.handled(c)
	for i, a := range all {
		sweeps := a.sweep && !a.errand.broken()
		if a.put && c.putOnce() {
			continue
		}
		if a.state == unsure && !sweeps || a.put {
			return true
		}
		for _, b := range slices.Concat(all[i+1:], c.kills) {
			if b.counts() && !(b.put && c.putOnce()) && (b.errand == nil || a.errand.overlap(b.errand)) {
				return true
			}
		}
	}
	return false
}

// judge compares what shows with what was told.
func (m *exploreModel) judge(got map[string]string) (wrong []string) {
	paths := map[*known][]string{}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		c := m.byText[got[path]]
		switch {
		case strings.HasSuffix(path, "/"):
		case c == nil:
			wrong = append(wrong, fmt.Sprintf("WRONG BYTES at %s: %.40q", path, got[path]))
		default:
			paths[c] = append(paths[c], path)
		}
	}
	for _, c := range m.contents {
		if fault := m.judgeOne(c, paths[c], got); fault != "" {
			wrong = append(wrong, fmt.Sprintf("%s: %v shows at %v", fault, c, paths[c]))
		}
	}
	for _, s := range m.swaps {
		if len(s.old.kills) == 1 && len(s.young.kills) == 0 && s.old.stored && len(paths[s.old])+len(paths[s.young]) == 0 {
			wrong = append(wrong, fmt.Sprintf("BOTH LOST: %v and %v", s.old, s.young))
		}
	}
	return wrong
}

// judgeOne tells what is wrong with where a content shows.
func (m *exploreModel) judgeOne(c *known, paths []string, got map[string]string) string {
	if len(paths) == 0 {
		if c.mustShow() {
			return "LOST"
		}
		return ""
	}
	for _, kill := range c.kills {
		if kill.state == done && kill.sure && !m.mayReturn(c, kill) {
			return fmt.Sprintf("RETURNED after errand %d", kill.errand.id())
		}
	}
	switch {
	case !c.stored && !c.maybe && !m.taken(c):
		return "NEVER STORED"
	case len(paths) > 1 && !m.mayDouble(c):
		return "TWICE"
	}
	for _, path := range paths {
		name := ""
		for _, n := range c.names {
			if named(n, path) && len(n) > len(name) {
				name = n
			}
		}
		_, taken := got[name]
		_, dir := got[name+"/"]
		if name == "" {
			return "WRONG NAME"
		}
		if name != path && !taken && !dir && !m.swept(c) { // unpacked, it keeps that name
			return "A CONFLICT WITH NOTHING"
		}
	}
	return ""
}

// String tells all that is known of a content.
func (c *known) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "content %d (%d bytes, stored %v at %d, maybe %v) of %v;", c.number, len(c.text), c.stored, c.since, c.maybe, c.names)
	for _, a := range c.carriers {
		fmt.Fprintf(&b, " carried by %v", a)
	}
	for _, a := range c.kills {
		fmt.Fprintf(&b, " removed by %v", a)
	}
	return b.String()
}

// String tells what an act was.
func (a *act) String() string {
	return fmt.Sprintf("errand %d (%s, sure %v)", a.errand.id(), [...]string{"running", "done", "unsure", "nothing"}[a.state], a.sure)
}
