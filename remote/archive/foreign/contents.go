// Package foreign reads what is in the archives of others, tar and zip, by ranges: the index
// without the contents, and of a member only what is asked for. Nothing in such a file is
// trusted.
package foreign

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unsafe"

	"github.com/meshmount/meshmount/remote"
)

// What is read of the archives of others (ReadZip, ReadTar) is not trusted: it is bounded,
// and what is outside of the bounds is left out or refused.
const (
	// MaxItems is the most entries of one archive, implied directories included.
	MaxItems = 500_000
	// MaxNames is the most bytes of all names and link texts of one archive.
	MaxNames = 64 << 20
	// MaxDepth is the most elements of a name.
	MaxDepth = 128

	maxElement = 255  // bytes of an element of a name, NAME_MAX
	maxName    = 3072 // bytes of a whole name
	maxTarget  = 4095 // bytes of the text of a symbolic link
)

// Ranged is an archive that is read by ranges.
type Ranged struct {
	Size int64 // bytes
	// Read fills p from an offset, or fails. It is never asked for what is beyond Size.
	Read func(ctx context.Context, p []byte, off int64) error
}

// Item is an entry of an archive.
type Item struct {
	// Path is the entry's name in the archive: clean, slash-separated, not rooted, never
	// empty. Its elements are neither "." nor ".." and hold no control characters.
	Path   string
	Target string // text of a symbolic link, as it is
	Size   int64  // bytes of the content
	Packed int64  // bytes that the content takes in the archive
	// At is where the content lies in the archive; in a zip, where its local header is.
	At    int64
	MTime int64  // nanoseconds since 1970, 0 if unknown
	CRC   uint32 // of the content; only in a zip
	Mode  uint32 // permission bits 07777; 0 if unknown
	Type  remote.Type
	// Deflated content has to be unpacked from its beginning on.
	Deflated bool
	Flaw     Flaw

	named   uint16 // bytes of the name in the local header of a zip
	nameSum uint32 // CRC of that
	end     int32  // number of the first item that is not below this one
}

// Flaw tells why the content of an item cannot be read. The zero value is: it can.
type Flaw uint8

// The flaws.
const (
	Readable  Flaw = iota
	Encrypted      // a zip's member that needs a password
	Method         // packed in a way that is not known here
	Sparse         // with holes, as GNU tar and others store it
	Damaged        // what the archive says of it cannot be true
)

// String says why in words, "" for Readable.
func (f Flaw) String() string {
	return [...]string{
		"", "the member is encrypted", "the member is packed by a method that is not supported",
		"the member is stored as a sparse file, which is not supported", "the member is damaged",
	}[f]
}

// FormatError tells that a file is not an archive, or one that is not taken.
type FormatError struct {
	Kind remote.Kind // Corrupt, TooLarge or Unsupported
	Text string
}

// Error implements error.
func (e *FormatError) Error() string { return e.Text }

func damaged(format string, args ...any) error {
	return &FormatError{remote.Corrupt, fmt.Sprintf(format, args...)}
}

// Contents is what is in an archive, as a tree: each name once, all directories there. It
// does not change and may be used from many goroutines.
type Contents struct {
	// items are in the order of comparePaths: what is below a directory follows it.
	items []Item
	// LeftOut counts entries that are not shown: names that cannot be, devices, links to
	// what is not there.
	LeftOut int
}

// Len returns the number of items.
func (c *Contents) Len() int { return len(c.items) }

// Item returns an item by its number. It must not be changed.
func (c *Contents) Item(n int) *Item { return &c.items[n] }

// Cost returns about how much memory the contents take, in bytes.
func (c *Contents) Cost() int64 {
	cost := int64(len(c.items)) * int64(unsafe.Sizeof(Item{}))
	for i := range c.items {
		cost += int64(len(c.items[i].Path) + len(c.items[i].Target))
	}
	return cost
}

// Find returns the number of the item of that name.
func (c *Contents) Find(path string) (n int, ok bool) {
	return slices.BinarySearchFunc(c.items, path, func(i Item, p string) int { return comparePaths(i.Path, p) })
}

// Children returns the items in a directory, by its number; -1 is the archive itself.
func (c *Contents) Children(dir int) iter.Seq[*Item] {
	first, end := dir+1, len(c.items)
	if dir >= 0 {
		end = int(c.items[dir].end)
	}
	return func(yield func(*Item) bool) {
		for i := first; i < end; i = int(c.items[i].end) {
			if !yield(&c.items[i]) {
				return
			}
		}
	}
}

// comparePaths orders names so that what is below a directory comes right after it.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		switch {
		case x == y:
			continue
		case x == '/':
			return -1
		case y == '/':
			return 1
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

// builder collects the entries of an archive in their order.
type builder struct {
	entries []entry
	names   int // bytes
	links   int
	leftOut int
}

// entry is an Item that may still be a hard link.
type entry struct {
	Item
	link string // name of the entry of which this is a hard link
	seq  int32
}

// add takes an entry in. Its name and link are as the archive has them.
func (b *builder) add(e entry) error {
	path, ok := cleanName(e.Path)
	if !ok || e.Type == remote.Symlink && !goodTarget(e.Target) {
		b.leftOut++
		return nil
	}
	if e.link != "" {
		if e.link, ok = cleanName(e.link); !ok {
			b.leftOut++
			return nil
		}
		b.links++
	}
	e.Path, e.seq = path, int32(len(b.entries))
	b.names += len(e.Path) + len(e.Target) + len(e.link)
	if len(b.entries) >= MaxItems || b.names > MaxNames {
		return tooMany()
	}
	b.entries = append(b.entries, e)
	return nil
}

func tooMany() error {
	return &FormatError{remote.TooLarge, fmt.Sprintf("the archive has more than %d entries, or too long names", MaxItems)}
}

// cleanName returns a name as it is shown, without what tar and unzip leave out as well:
// slashes at both ends, empty elements and ".". Names that lead upwards, that hold control
// characters or are too long are no good.
func cleanName(name string) (string, bool) {
	if len(name) > maxName+maxElement || strings.ContainsFunc(name, isControl) {
		return "", false
	}
	var keep []string
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "" || element == ".":
			continue
		case element == ".." || len(element) > maxElement:
			return "", false
		}
		keep = append(keep, element)
	}
	path := strings.Join(keep, "/")
	return path, path != "" && len(path) <= maxName && len(keep) <= MaxDepth
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// goodTarget tells whether a text can be that of a symbolic link.
func goodTarget(text string) bool {
	return text != "" && len(text) <= maxTarget && strings.IndexByte(text, 0) < 0
}

// finish makes the tree: of several entries of one name, the last counts, and what has
// something below it is a directory.
func (b *builder) finish() (*Contents, error) {
	slices.SortFunc(b.entries, func(x, y entry) int {
		if c := comparePaths(x.Path, y.Path); c != 0 {
			return c
		}
		return int(x.seq - y.seq)
	})
	b.resolve()
	t := tree{leftOut: b.leftOut}
	for i := range b.entries {
		e := &b.entries[i]
		if i+1 < len(b.entries) && b.entries[i+1].Path == e.Path {
			continue // the next is the later one
		}
		t.add(e.Item)
		if len(t.items) > MaxItems {
			return nil, tooMany()
		}
	}
	t.pop(0)
	return &Contents{items: slices.Clip(t.items), LeftOut: t.leftOut}, nil
}

// resolve gives hard links the content of what they are links to: the last entry of that
// name before them. It drops those that lead nowhere.
func (b *builder) resolve() {
	if b.links == 0 {
		return
	}
	order := make([]int32, len(b.entries))
	for i := range b.entries {
		order[b.entries[i].seq] = int32(i)
	}
	for _, i := range order { // links to links are resolved by then
		e := &b.entries[i]
		if e.link == "" {
			continue
		}
		if to := b.before(e.link, e.seq); to != nil {
			path := e.Path
			e.Item, e.link = to.Item, ""
			e.Path = path
		}
	}
	kept := slices.DeleteFunc(b.entries, func(e entry) bool { return e.link != "" })
	b.leftOut += len(b.entries) - len(kept)
	b.entries = kept
}

// before returns the last entry of a name before another, if it has content.
func (b *builder) before(path string, seq int32) *entry {
	i, _ := slices.BinarySearchFunc(b.entries, path, func(e entry, p string) int {
		if c := comparePaths(e.Path, p); c != 0 {
			return c
		}
		return int(e.seq - seq)
	})
	if i == 0 {
		return nil
	}
	e := &b.entries[i-1]
	if e.Path != path || e.Type == remote.Dir || e.link != "" {
		return nil
	}
	return e
}

// tree makes items of entries in the order of comparePaths.
type tree struct {
	items   []Item
	open    []int32 // the last item and the directories above it
	leftOut int
}

func (t *tree) add(item Item) {
	above := len(t.open)
	for above > 0 && !below(item.Path, t.items[t.open[above-1]].Path) {
		above--
	}
	t.pop(above)
	from := 0
	if above > 0 {
		up := &t.items[t.open[above-1]]
		if up.Type != remote.Dir {
			*up = Item{Path: up.Path, Type: remote.Dir}
			t.leftOut++
		}
		from = len(up.Path) + 1
	}
	for {
		i := strings.IndexByte(item.Path[from:], '/')
		if i < 0 {
			break
		}
		t.push(Item{Path: item.Path[:from+i], Type: remote.Dir})
		from += i + 1
	}
	t.push(item)
}

func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}

func (t *tree) push(item Item) {
	t.open = append(t.open, int32(len(t.items)))
	t.items = append(t.items, item)
}

// pop closes all but the first n open items.
func (t *tree) pop(n int) {
	for _, i := range t.open[n:] {
		t.items[i].end = int32(len(t.items))
	}
	t.open = t.open[:n]
}
