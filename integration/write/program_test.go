package write_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// planner draws programs that succeed on a tree.
type planner struct {
	*rand.Rand
	m       *model // what there is after the operations so far
	program []op
	temps   int
}

// mostNodes is about how large the tree becomes.
const mostNodes = 40

// mostBytes is about how large a file becomes. Without a journal a kill leaves objects of
// zones torn that do not go in one call.
func mostBytes() int {
	if through() {
		return 1 << 20
	}
	return 16 << 20
}

// plan returns a random program of about n operations for what a model has.
func plan(random *rand.Rand, m *model, n int) []op {
	p := &planner{Rand: random, m: m.clone()}
	steps := []struct {
		weight int
		draw   func() bool
	}{
		{8, p.openNew}, {6, p.openOld}, {14, p.writeMore}, {5, p.writeWithin}, {3, p.shrink}, {5, p.sync}, {8, p.closeOne},
		{10, p.create}, {8, p.save}, {3, p.truncatePath}, {4, p.makeDir}, {3, p.removeDir}, {6, p.renameFile},
		{4, p.renameDir}, {6, p.unlink}, {2, p.link}, {3, p.chmod}, {3, p.utimens}, {3, p.burst},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	for len(p.program) < n {
		if len(p.m.nodes) > mostNodes {
			p.unlink()
		}
		k := p.IntN(total)
		for _, s := range steps {
			if k -= s.weight; k < 0 {
				s.draw() // what is not possible now is not drawn
				break
			}
		}
	}
	for i := range p.m.open { // most programs end well
		if p.m.open[i] != nil && p.IntN(4) > 0 {
			p.do(op{Verb: "close", Slot: i})
		}
	}
	return p.program
}

// do adds an operation.
func (p *planner) do(o op) bool {
	p.m.apply(&o)
	p.program = append(p.program, o)
	return true
}

// pick draws one of the paths that are wanted, "" if there is none.
func (p *planner) pick(want func(path string, n *node) bool) string {
	var found []string
	for _, path := range slices.Sorted(maps.Keys(p.m.nodes)) {
		if want(path, p.m.nodes[path]) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return found[p.IntN(len(found))]
}

func (p *planner) file() string {
	return p.pick(func(_ string, n *node) bool { return n.kind == 0 })
}

// idle draws a file that is not open.
func (p *planner) idle() string {
	return p.pick(func(_ string, n *node) bool { return n.kind == 0 && !p.m.isOpen(n) })
}

func (p *planner) dir() string {
	return p.pick(func(_ string, n *node) bool { return n.kind == fs.ModeDir })
}

// free draws a path of which there is nothing yet, "" if that does not succeed.
func (p *planner) free() string {
	path := []string{"a", "b", "c", "d", "e", "f", "with space", "ü"}[p.IntN(8)]
	if p.IntN(3) > 0 {
		if dir := p.dir(); dir != "" {
			path = dir + "/" + path
		}
	}
	if p.m.nodes[path] != nil || strings.Count(path, "/") > 4 {
		return ""
	}
	return path
}

// slot returns a free slot, or one in use, -1 if there is none.
func (p *planner) slot(used bool) int {
	first := p.IntN(slots)
	for i := range slots {
		if k := (first + i) % slots; (p.m.open[k] != nil) == used {
			return k
		}
	}
	return -1
}

// size draws the length of a write.
func (p *planner) size() int {
	switch n := p.IntN(100); {
	case n < 5:
		return 0
	case n < 65:
		return p.IntN(8 << 10)
	case n < 90:
		return p.IntN(128 << 10)
	default:
		return p.IntN(1 << 20)
	}
}

func (p *planner) write(slot int, off int64, n int) bool {
	return p.do(op{Verb: "write", Slot: slot, Off: off, Len: n, Seed: p.Uint64() >> 24})
}

func (p *planner) openNew() bool {
	slot, path := p.slot(false), p.free()
	if slot < 0 || path == "" {
		return false
	}
	flags := unix.O_RDWR | unix.O_CREAT
	if p.IntN(3) == 0 {
		flags |= unix.O_EXCL
	}
	return p.do(op{Verb: "open", Slot: slot, Path: path, Flags: flags}) && p.write(slot, 0, p.size())
}

func (p *planner) openOld() bool {
	slot, path := p.slot(false), p.idle()
	if slot < 0 || path == "" {
		return false
	}
	flags := []int{unix.O_RDWR, unix.O_WRONLY, unix.O_WRONLY | unix.O_TRUNC, unix.O_WRONLY | unix.O_APPEND}[p.IntN(4)]
	return p.do(op{Verb: "open", Slot: slot, Path: path, Flags: flags})
}

// writeMore writes at the end, now and then many times.
func (p *planner) writeMore() bool {
	slot := p.slot(true)
	if slot < 0 {
		return false
	}
	if len(p.m.open[slot].last()) > mostBytes() {
		return p.do(op{Verb: "ftruncate", Slot: slot, Off: 100})
	}
	if p.IntN(40) == 0 {
		for range mostBytes() >> 21 {
			p.write(slot, int64(len(p.m.open[slot].last())), 1<<20)
		}
	}
	return p.write(slot, int64(len(p.m.open[slot].last())), p.size())
}

// writeWithin overwrites a part, or leaves a hole.
func (p *planner) writeWithin() bool {
	slot := p.slot(true)
	if slot < 0 {
		return false
	}
	return p.write(slot, p.Int64N(int64(len(p.m.open[slot].last()))+5000), p.size()/8)
}

func (p *planner) shrink() bool {
	slot := p.slot(true)
	if slot < 0 {
		return false
	}
	return p.do(op{Verb: "ftruncate", Slot: slot, Off: p.Int64N(int64(len(p.m.open[slot].last())) + 1000)})
}

func (p *planner) sync() bool {
	slot := p.slot(true)
	return slot >= 0 && p.do(op{Verb: "fsync", Slot: slot})
}

func (p *planner) closeOne() bool {
	slot := p.slot(true)
	return slot >= 0 && p.do(op{Verb: "close", Slot: slot})
}

// create makes a whole file.
func (p *planner) create() bool {
	slot, path := p.slot(false), p.free()
	if slot < 0 || path == "" {
		return false
	}
	p.do(op{Verb: "open", Slot: slot, Path: path, Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL})
	p.write(slot, 0, p.size())
	return p.do(op{Verb: "close", Slot: slot})
}

// burst makes some small files in one directory, which may be stored together.
func (p *planner) burst() bool {
	slot, dir := p.slot(false), p.dir()
	if slot < 0 || dir == "" {
		return false
	}
	for i := range 2 + p.IntN(6) {
		path := fmt.Sprintf("%s/burst%d", dir, i)
		if p.m.nodes[path] != nil {
			continue
		}
		p.do(op{Verb: "open", Slot: slot, Path: path, Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL})
		p.write(slot, 0, p.IntN(3000))
		p.do(op{Verb: "close", Slot: slot})
	}
	return true
}

// save replaces a file by way of a temporary name, as editors do.
func (p *planner) save() bool {
	slot, path := p.slot(false), p.file()
	if slot < 0 || path == "" {
		return false
	}
	p.temps++
	dir := path[:strings.LastIndexByte(path, '/')+1]
	temp := fmt.Sprintf("%s.save-%d", dir, p.temps)
	if p.m.nodes[temp] != nil {
		return false
	}
	p.do(op{Verb: "open", Slot: slot, Path: temp, Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL})
	p.write(slot, 0, p.size())
	if p.IntN(2) == 0 {
		p.do(op{Verb: "fsync", Slot: slot})
	}
	if p.IntN(5) > 0 { // some rename what is still open
		p.do(op{Verb: "close", Slot: slot})
	}
	return p.do(op{Verb: "rename", Path: temp, To: path})
}

func (p *planner) truncatePath() bool {
	path := p.idle()
	if path == "" {
		return false
	}
	return p.do(op{Verb: "truncate", Path: path, Off: p.Int64N(int64(len(p.m.nodes[path].last())) + 3000)})
}

func (p *planner) makeDir() bool {
	path := p.free()
	return path != "" && p.do(op{Verb: "mkdir", Path: path})
}

func (p *planner) removeDir() bool {
	path := p.pick(func(path string, n *node) bool { return n.kind == fs.ModeDir && len(p.m.below(path)) == 0 })
	return path != "" && p.do(op{Verb: "rmdir", Path: path})
}

// renameFile moves a file or link, half of the time over another file.
func (p *planner) renameFile() bool {
	from := p.pick(func(_ string, n *node) bool { return n.kind != fs.ModeDir })
	to := p.free()
	if p.IntN(2) == 0 {
		to = p.pick(func(path string, n *node) bool { return n.kind == 0 && path != from })
	}
	return from != "" && to != "" && p.do(op{Verb: "rename", Path: from, To: to})
}

func (p *planner) renameDir() bool {
	from, to := p.dir(), p.free()
	if from == "" || to == "" || to == from || strings.HasPrefix(to, from+"/") {
		return false
	}
	return p.do(op{Verb: "rename", Path: from, To: to})
}

// unlink removes a file or link, now and then a large one.
func (p *planner) unlink() bool {
	path := ""
	if p.IntN(2) == 0 {
		path = p.pick(func(_ string, n *node) bool { return n.kind == 0 && len(n.last()) > 1<<20 })
	}
	if path == "" {
		path = p.pick(func(_ string, n *node) bool { return n.kind != fs.ModeDir })
	}
	return path != "" && p.do(op{Verb: "unlink", Path: path})
}

func (p *planner) link() bool {
	path := p.free()
	if through() { // zones make them in two steps
		return false
	}
	return path != "" && p.do(op{Verb: "symlink", Path: path, To: "some/where"})
}

func (p *planner) chmod() bool {
	path := p.idle()
	if path == "" {
		return false
	}
	// The umask of the mount takes the bits that it does not show.
	return p.do(op{Verb: "chmod", Path: path, Mode: []uint32{0o600, 0o644, 0o755, 0o700, 0o640}[p.IntN(5)]})
}

func (p *planner) utimens() bool {
	path := p.idle()
	return path != "" && p.do(op{Verb: "utimens", Path: path, Time: 1_000_000_000 + p.Int64N(500_000_000)})
}

// String tells an operation to people.
func (o op) String() string {
	switch o.Verb {
	case "open":
		return fmt.Sprintf("open %d %q %#x", o.Slot, o.Path, o.Flags)
	case "write":
		return fmt.Sprintf("write %d at %d: %d bytes", o.Slot, o.Off, o.Len)
	case "ftruncate", "fsync", "close":
		return fmt.Sprintf("%s %d (%d)", o.Verb, o.Slot, o.Off)
	case "rename", "symlink":
		return fmt.Sprintf("%s %q %q", o.Verb, o.Path, o.To)
	}
	return fmt.Sprintf("%s %q (%d %o %d)", o.Verb, o.Path, o.Off, o.Mode, o.Time)
}
