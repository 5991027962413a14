package writeback

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// What becomes of content that somebody else's stands in the way of.

// mostClashes is how often an attempt meets others at its path that come and go, as those do who
// make one name at the same time and take theirs back.
const mostClashes = 4

// sendAgain sends the content once more in a clash, over j.base.
func (j *job) sendAgain(ctx context.Context, p *pin) outcome {
	e, err := j.send(ctx, p)
	switch k := remote.KindOf(err); {
	case err == nil:
		return j.put1(e)
	case k != remote.Exist && k != remote.Conflict || p.isTorn():
		return outcome{err: err}
	}
	if j.clashes++; j.clashes < mostClashes {
		return j.clash(ctx, p, err)
	}
	return outcome{err: &remote.Error{Op: "put", Path: j.path, Kind: remote.Unavailable, Err: fmt.Errorf("what is there comes and goes: %w", err)}}
}

// aside stores our content beside theirs.
func (j *job) aside(ctx context.Context, p *pin, theirs remote.Entry, cause error) outcome {
	if err := j.complete(ctx, p.size); err != nil {
		return outcome{err: fmt.Errorf("%w, and %w", cause, err)}
	}
	o := j.options()
	o.Cond = remote.Cond{NotExist: true}
	o.Redo, o.Resume = false, ""
	var e remote.Entry
	err := error(&remote.Error{Kind: remote.Exist})
	for at, i := j.b.store.opts.Now(), 0; remote.KindOf(err) == remote.Exist && i < 20; i++ {
		path := ConflictPath(j.path, j.b.store.opts.Hostname, at.Add(time.Duration(i)*time.Microsecond), j.b.Caps().MaxName)
		if e, err = j.b.below.Put(ctx, path, &counted{p, j.c}, o); err == nil {
			break
		}
	}
	if p.isTorn() {
		return outcome{err: errTorn}
	}
	if err != nil {
		return outcome{err: fmt.Errorf("%w (of the copy of %s: %w)", err, j.path, cause)}
	}
	return outcome{entry: theirs, copy: e}
}

// ConflictPath returns the name for what cannot have its own: beside it, with host and
// time. Where names are bounded (maxName bytes, 0 for 255), the end of the name gives way.
func ConflictPath(path, host string, at time.Time, maxName int) string {
	dir, name := remote.Split(path)
	suffix := ".conflict-" + host + "-" + at.UTC().Format("20060102T150405.000000")
	longest := 255
	if maxName > 0 {
		longest = min(longest, maxName)
	}
	for len(name)+len(suffix) > longest && name != "" {
		name = strings.ToValidUTF8(name[:len(name)-1], "")
	}
	return remote.Join(dir, name+suffix)
}
