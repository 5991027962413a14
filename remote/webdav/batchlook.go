package webdav

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// A directory is listed for the files of a batch if it holds some of them, and not so many
// other names that looking at each file by itself is less work for the server.
const (
	fewLooks   = 4    // so many files are looked at one by one
	vastAnyway = 1000 // names that may be listed for the smallest batch,
	vastEach   = 20   // and for each file of it
)

// vastKept is how long a directory counts as too large after it was found to be.
const vastKept = 10 * time.Minute

// maxVast bounds what is remembered.
const maxVast = 1000

var errVast = errors.New("a directory of many names")

// vastDirs remembers directories that are too large to be listed for a few files.
type vastDirs struct {
	mu   sync.Mutex // guards what follows
	dirs map[string]vastDir
}

// vastDir is a directory that had at least so many names.
type vastDir struct {
	names int
	until time.Time
}

// add takes note of a directory.
func (v *vastDirs) add(dir string, names int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dirs == nil || len(v.dirs) >= maxVast {
		v.dirs = map[string]vastDir{}
	}
	v.dirs[dir] = vastDir{names, time.Now().Add(vastKept)}
}

// holds tells whether a directory is known to have more than most names.
func (v *vastDirs) holds(dir string, most int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	d, ok := v.dirs[dir]
	return ok && d.names > most && time.Now().Before(d.until)
}

// dirLook is a directory with the members in it that are looked for.
type dirLook struct {
	path string
	some []*member
	rest []*member // to be looked at one by one
}

// most is how many names may be listed for them.
func (d *dirLook) most() int { return vastAnyway + vastEach*len(d.some) }

// look finds out what is at the paths of members, in as few requests as it takes, and
// sets seen or seenErr. What the server says to have taken and a listing does not show is
// looked at once more.
func (r *batch) look(ctx context.Context, some []*member) {
	var lists []*dirLook
	var singles []*member
	for _, d := range byDir(some) {
		if len(d.some) < fewLooks || r.b.vast.holds(d.path, d.most()) {
			singles = append(singles, d.some...)
			continue
		}
		lists = append(lists, d)
	}
	r.b.inLanes(ctx, len(lists), func(i int) { r.list(ctx, lists[i]) })
	for _, d := range lists {
		singles = append(singles, d.rest...)
	}
	r.each(ctx, singles, (*member).lookAlone)
}

// byDir puts members together by their directories.
func byDir(some []*member) []*dirLook {
	var all []*dirLook
	at := map[string]*dirLook{}
	for _, m := range some {
		dir, _ := remote.Split(m.path)
		d := at[dir]
		if d == nil {
			d = &dirLook{path: dir}
			at[dir], all = d, append(all, d)
		}
		d.some = append(d.some, m)
	}
	return all
}

// lookAlone looks at one file.
func (m *member) lookAlone(ctx context.Context, _ *batch) {
	m.seen, m.seenErr, m.orphan = nil, nil, false
	f, err := m.c.lookAt(ctx, m.path)
	if err != nil {
		m.seenErr = err
		return
	}
	m.seen = &f
}

// list looks at the members in one directory by a listing of it: by another one if the first
// was cut, as servers do that close connections when all their workers are busy.
func (r *batch) list(ctx context.Context, d *dirLook) {
	want, spotted, err := r.listOnce(ctx, d)
	if err != nil && remote.KindOf(err) == remote.Unavailable && ctx.Err() == nil {
		want, spotted, err = r.listOnce(ctx, d)
	}
	for name, m := range want {
		if !m.listed(err, spotted[name]) {
			d.rest = append(d.rest, m)
		}
	}
}

// listOnce lists a directory and returns the members by their names, which of those names
// the listing has shown in whatever form, and how it ended.
func (r *batch) listOnce(ctx context.Context, d *dirLook) (want map[string]*member, spotted map[string]bool, err error) {
	want, spotted = map[string]*member{}, map[string]bool{}
	names := 0
	for _, m := range d.some {
		m.seen, m.seenErr, m.orphan = nil, nil, false
		_, name := remote.Split(m.path)
		want[name] = m
	}
	c := &call{b: r.b, op: "put", path: d.path}
	l := &listing{c: c, h: r.b.hrefs(strings.TrimSuffix(d.path, "/"))}
	l.spotted = func(name string) { spotted[name] = spotted[name] || want[name] != nil }
	l.yield = func(f found) error {
		if names++; names > d.most() {
			return errVast
		}
		if _, name := remote.Split(f.Path); want[name] != nil {
			want[name].seen = &f
		}
		return nil
	}
	err = l.run(ctx)
	if errors.Is(err, errVast) {
		r.b.vast.add(d.path, names)
	}
	return want, spotted, err
}

// listed takes up that a listing with m in its directory ended with err. It is false if m
// is to be looked at alone: because the listing was not read to its end or is refused, or
// shows something with this name that cannot be understood, or not what the server took.
func (m *member) listed(err error, spotted bool) bool {
	switch kind := remote.KindOf(err); {
	case m.seen != nil && (err == nil || errors.Is(err, errVast)):
		return true
	case errors.Is(err, errVast):
		return false
	case err == nil && (spotted || m.phase == taken):
		return false
	case err == nil:
		m.seenErr = m.c.fail(remote.NotExist, nil)
	case statusOf(err) != 0 && kind != remote.NotExist && kind != remote.NotDir && kind != remote.Auth && kind != remote.Unavailable:
		m.seen = nil
		return false
	default:
		m.seen, m.seenErr = nil, m.c.adapt(err)
		m.orphan = kind == remote.NotExist
	}
	return true
}
