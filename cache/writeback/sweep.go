package writeback

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// Uploads bear tags, by which their servers can be asked for what is left of them: the
// journal's signature, which the lock file holds, and the process's session. Names for
// going on with an upload begin with the tag.
const signatureLen = 16

// sign reads the signature of the journal, or makes one. Without one there are no tags:
// nothing is lost by that.
func (s *Store) sign() {
	text := make([]byte, signatureLen)
	if n, _ := s.lock.ReadAt(text, 0); n == signatureLen {
		if _, err := hex.DecodeString(string(text)); err == nil {
			s.tag = string(text) + s.session
			return
		}
	}
	text = fmt.Appendf(nil, "%016x", rand.Uint64())
	if _, err := s.lock.WriteAt(text, 0); err != nil {
		s.log.Debug("the journal has no signature", "err", err)
		return
	}
	s.tag = string(text) + s.session
}

// uploadName returns a name under which an upload can go on later.
func (s *Store) uploadName() string {
	return fmt.Sprintf("%s%016x%016x", s.tag, rand.Uint64(), rand.Uint64())
}

// dead tells whether a tag, or a name for going on, is of a process before this one and of
// no use any more.
func (s *Store) dead(tag string) bool {
	if s.tag == "" || !strings.HasPrefix(tag, s.tag[:signatureLen]) || strings.HasPrefix(tag, s.tag) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.orphans {
		if o.op.Resume == tag {
			return false
		}
	}
	for _, b := range s.branches {
		for _, c := range b.all {
			if c.token == tag {
				return false
			}
		}
	}
	return true
}

// sweep removes what processes before this one have left of uploads of size bytes to the
// path, if this change is one of theirs.
func (j *job) sweep(ctx context.Context, size int64) error {
	s := j.b.store
	s.mu.Lock()
	old := j.c.replayed
	s.mu.Unlock()
	if !old {
		return nil
	}
	return j.sweepAt(ctx, j.path, size)
}

// sweepDir removes what processes before this one have left of uploads into the directory, which
// keeps the server from removing it. Such an upload may have had another name: of a file that was
// never closed, or before a directory above it was renamed.
func (j *job) sweepDir(ctx context.Context) error {
	return j.sweepAt(ctx, remote.Join(j.path, "upload"), -1)
}

// sweepAt removes what processes before this one have left of uploads to a path.
func (j *job) sweepAt(ctx context.Context, path string, size int64) error {
	s := j.b.store
	sweeper, ok := remote.As[remote.Sweeper](j.b.below)
	if !ok || s.tag == "" {
		return nil
	}
	err := sweeper.Sweep(ctx, path, size, s.dead)
	if err != nil && !remote.Retryable(err) { // it is only litter
		s.log.Debug("what an earlier upload has left is not removed", "branch", j.b.policy.Name, "path", path, "err", err)
		return nil
	}
	return err
}
