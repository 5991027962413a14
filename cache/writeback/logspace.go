package writeback

import (
	"errors"
	"time"
)

// logFollow is the space that is kept for what follows each change: that its content is
// synced, that it is parked, that it is done.
const logFollow = 160

// keep is the space that has to stay free when as many changes are appended. Called with
// mu held.
func (j *journal) keep(ops int) int64 {
	return j.reserve + int64(j.open+ops)*logFollow + logPage
}

// roomAfter is the allocated space that stays when a frame of n bytes is written;
// negative if there is none for it. Called with mu held.
func (j *journal) roomAfter(n int64) int64 {
	left := j.spare.rest()
	if rest := j.active.rest(); rest >= n {
		left += rest
	}
	return left - n
}

// makeRoom makes active one with room for a frame of n bytes with as many changes.
// Called with mu held.
func (j *journal) makeRoom(n int64, ops int) error {
	for {
		if err := j.heal(); err != nil {
			return err
		}
		keep := int64(0)
		if ops > 0 {
			keep = j.keep(ops)
		}
		if j.roomAfter(n) < keep {
			if err := j.growSpare(n + keep); err != nil {
				return err
			}
		}
		if j.active.rest() >= n {
			return nil
		}
		if j.syncing {
			j.cond.Wait()
			continue
		}
		if err := j.rotate(); err != nil {
			return err
		}
	}
}

// usualChange is about how long the record of a change is, with its frame.
const usualChange = 512

// cramped tells whether there is no room for a change.
func (j *journal) cramped() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	want := usualChange + j.keep(1)
	return j.ready && j.roomAfter(0) < want && j.growSpare(want) != nil
}

// rotate begins a new segment behind active. Called with mu held while nobody syncs.
func (j *journal) rotate() error {
	if j.durable < j.seq {
		err := j.active.file.sync()
		j.synced(j.seq, err)
		if err != nil {
			return nil // the caller heals it
		}
	}
	return j.begin()
}

// heal goes on in a new segment if active is sick. What was not synced is on stable
// storage then. Called with mu held.
func (j *journal) heal() error {
	if j.sick == nil {
		return nil
	}
	if j.settle(); j.sick == nil {
		return nil // somebody else did
	}
	return j.begin()
}

// begin makes the spare the active segment, with what was not synced. After an error,
// nothing that counts has changed. Called with mu held while nobody syncs.
func (j *journal) begin() error {
	size := int64(0)
	for _, frame := range j.unsynced {
		size += int64(len(frame))
	}
	if j.spare.rest() < max(size, 1) {
		if err := j.growSpare(size + 1); err != nil {
			return err
		}
	}
	s := j.spare
	j.number(s, false)
	err := j.fill(s)
	if err == nil {
		err = j.fs.rename(logSpare, s.name)
	}
	if err != nil {
		var wiped error
		j.spare, wiped = j.wipe(s, logSpare)
		return errors.Join(err, wiped)
	}
	j.active.close(j.log)
	j.segments = append(j.segments, s)
	j.active, j.spare = s, nil
	j.used += s.end
	if j.sick = j.fs.syncDir(); j.sick != nil {
		return j.sick // it has a name, so that there is no way back: only on to another
	}
	j.unsynced, j.durable = nil, j.seq
	j.prepare()
	return nil
}

// number gives s the next number. Those of failed attempts are not used again.
func (j *journal) number(s *logSegment, snap bool) {
	s.n, s.snap, s.headed, s.end = j.next, snap, true, logHead
	s.name = logName(s.n, snap)
	j.next++
}

// fill writes the head of s and what was not synced, and syncs it.
func (j *journal) fill(s *logSegment) error {
	first := j.seq + 1 - uint64(len(j.unsynced))
	if err := j.writeHead(s, first); err != nil {
		return err
	}
	for i, frame := range j.unsynced {
		j.seal(s, frame, first+uint64(i), logGroup)
		if _, err := s.file.WriteAt(frame, s.end); err != nil {
			return err
		}
		s.end += int64(len(frame))
	}
	return s.file.sync()
}

func (j *journal) writeHead(s *logSegment, first uint64) error {
	s.head = logHeader{version: logVersion, n: s.n, first: first, boot: j.bootID, made: time.Now()}
	_, err := s.file.WriteAt(s.head.encode(), 0)
	return err
}

// prepare takes the space for the next segment and a small snapshot, if there is any.
// Called with mu held.
func (j *journal) prepare() {
	var err error
	if want := j.keep(0); j.spare.rest() < want {
		err = j.growSpare(want)
	}
	if j.draft == nil && err == nil {
		j.draft, err = j.newSpace(logNew, min(logDraft, j.segSize/4))
	}
	if err != nil {
		j.log.Debug("no space for the next segment of the journal", "err", err)
	}
}

// logDraft is the space for a small snapshot.
const logDraft = 64 << 10

// growSpare gives the spare space for want bytes of frames: a segment of the usual size,
// or as much as is needed if the disk has no more. Called with mu held.
func (j *journal) growSpare(want int64) (err error) {
	tight := want + logHead
	full := (tight + j.segSize - 1) / j.segSize * j.segSize
	for _, size := range []int64{full, tight} {
		if j.spare == nil {
			j.spare, err = j.newSpace(logSpare, size)
		} else {
			err = j.spare.allocate(size)
		}
		if !logNoSpace(err) {
			break
		}
	}
	return err
}

// newSpace makes a file with space that nobody else can take.
func (j *journal) newSpace(name string, size int64) (*logSegment, error) {
	file, err := j.fs.create(name)
	if err != nil {
		return nil, err
	}
	s := &logSegment{name: name, file: file, end: logHead}
	if err := s.allocate(size); err != nil {
		s.close(j.log)
		return nil, errors.Join(err, j.fs.remove(name))
	}
	return s, nil
}

// allocate makes s larger, or leaves it as it is.
func (s *logSegment) allocate(size int64) error {
	if size <= s.size {
		return nil
	}
	if err := s.file.allocate(size); err != nil {
		return errors.Join(err, s.file.truncate(s.size))
	}
	s.size = size
	return nil
}

// wipe makes a file of space as it was after it was written in vain, or gives it up:
// then it returns nil.
func (j *journal) wipe(s *logSegment, name string) (*logSegment, error) {
	err := s.file.truncate(s.size)
	if err == nil {
		err = logZero(s.file, 0, min(s.end, s.size))
	}
	if err == nil && s.size > 0 {
		err = s.file.allocate(s.size)
	}
	if err == nil {
		return &logSegment{name: name, file: s.file, size: s.size, end: logHead}, nil
	}
	s.close(j.log)
	return nil, errors.Join(err, j.fs.remove(name))
}

// adopt takes a file of space that the last process left. It returns nil if it is of no
// use.
func (j *journal) adopt(name string) (*logSegment, error) {
	file, err := j.fs.open(name)
	if err != nil {
		return nil, err
	}
	s := &logSegment{name: name, file: file, end: logHead}
	if s.size, err = file.size(); err == nil {
		if r := (logReader{file: file, size: s.size}); !r.blank(0, s.size) || r.broken {
			err = logZero(file, 0, s.size)
		}
	}
	if err == nil && s.size > logHead {
		if err = file.allocate(s.size); err == nil {
			return s, nil
		}
	}
	s.close(j.log)
	return nil, j.fs.remove(name)
}
