package irods

import (
	"context"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// tidyPauses are those before each attempt to remove what a batch has left. Later it is
// left to Sweep.
var tidyPauses = []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// tidy has what the batch may have left removed in the background. An extraction that is
// under way, of which nobody is told, may make it anew: then all attempts are made.
func (t *batch) tidy() {
	if !t.littered {
		return
	}
	busy := t.sent && !t.answered
	t.b.pool.launch(func(life context.Context) {
		for _, pause := range tidyPauses {
			select {
			case <-life.Done():
				return
			case <-time.After(pause):
			}
			if err := t.b.drop(life, t.hidden); err == nil && !busy {
				return
			}
		}
	})
}

// drop removes a hidden collection, if it is there.
func (b *Backend) drop(ctx context.Context, rel string) error {
	err := b.do(ctx, "sweep", rel, true, func(s *session) error {
		_, err := s.conn.Call(ctx, b.dropCall(rel))
		return err
	})
	if remote.KindOf(err) == remote.NotExist {
		return nil
	}
	return err
}

// Sweep implements remote.Sweeper. What a batch with the path may have left lies in one of
// the directories above it. It is one round trip for those that were not looked at yet, and
// one for each batch that was cut off.
func (b *Backend) Sweep(ctx context.Context, path string, _ int64, dead func(tag string) bool) error {
	const op = "sweep"
	if err := b.check(op, path); err != nil {
		return err
	}
	var dirs []string
	for dir := path; dir != "/"; {
		dir, _ = remote.Split(dir)
		if _, was := b.batching.swept.Load(dir); !was && packable(b.full(dir)) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	left, err := b.leftIn(ctx, op, path, dirs)
	n := 0
	for _, rel := range left {
		_, name := remote.Split(rel)
		if tag := tempTag(name); err == nil && tag != "" && dead(tag) {
			err = b.drop(ctx, rel)
			n++
		}
	}
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		b.batching.swept.Store(dir, true)
	}
	if n > 0 {
		b.opts.Logger.Info("unfinished uploads of an earlier process are removed", "uploads", n)
	}
	return nil
}

// leftIn finds hidden collections in some directories.
func (b *Backend) leftIn(ctx context.Context, op, path string, dirs []string) (left []string, err error) {
	full := make([]string, len(dirs))
	for i, dir := range dirs {
		full[i] = b.full(dir)
	}
	err = b.do(ctx, op, path, false, func(s *session) error {
		var cursors []*cursor
		for _, list := range lists(full) {
			cursors = append(cursors, ask(b.zone, wire.ColCollName).most(listRows).
				where(wire.ColCollParentName, oneOf(list)).
				where(wire.ColCollName, wire.Like("%/"+tempPrefix+"%"+tempSuffix)))
		}
		if err := begin(ctx, s, cursors...); err != nil {
			return err
		}
		return eachRow(ctx, s, cursors, func(c *cursor) error {
			rel := strings.TrimPrefix(c.text(wire.ColCollName), b.full("/"))
			if isTemp(rel[strings.LastIndexByte(rel, '/')+1:]) {
				left = append(left, strings.Clone(rel))
			}
			return nil
		})
	})
	return left, err
}
