package writeback

import (
	"errors"
	"slices"
)

// logSnapFrame is about how many bytes of records go into a frame of a snapshot.
const logSnapFrame = 64 << 10

// logMany is more segments than there need to be.
const logMany = 32

// bloated tells whether compaction is worth its while when as many changes are live, or
// gives space where there is no other. It is cheap.
func (j *journal) bloated(live int, full bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open = live
	size := int64(256)
	if j.ops > 0 {
		size = j.opBytes / j.ops
	}
	least := j.segSize
	if full {
		least = logDraft
	}
	much := j.used > max(least, 2*size*int64(live)) || len(j.segments) > logMany
	patient := j.used < j.failed.used && live > j.failed.live
	return j.ready && much && !patient
}

// logTry is a compaction that failed: it is not tried again until more bytes are used, or
// fewer changes are live.
type logTry struct {
	used int64
	live int
}

// compact replaces all segments by a snapshot of the records that live yields, which is
// called with the journal locked, perhaps twice, and may not use it. What was appended
// before has to be among them as far as it counts, so the owner must not let go of its
// own lock between the append of a record and noting it in its state. After an error all
// is as before.
func (j *journal) compact(live func(yield func(*record) bool)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.usable()
	if err == nil {
		err = j.syncHeld()
	}
	if err != nil {
		return logError(err)
	}
	w, err := j.snapshot(live)
	if err != nil {
		j.failed = logTry{used: j.used + j.segSize/4, live: j.open / 2}
		return logError(err)
	}
	return logError(j.replace(w))
}

// snapshot writes a snapshot and gives it its name. On a full disk it takes the spare.
func (j *journal) snapshot(live func(yield func(*record) bool)) (w *logSnapshot, err error) {
	if j.draft == nil {
		if j.draft, err = j.newSpace(logNew, 0); err != nil {
			return nil, err
		}
	}
	draft := j.draft
	if w, err = j.snapshotIn(draft, logNew, live); err == nil {
		j.draft = nil
		return w, nil
	}
	full := logNoSpace(err)
	var wiped error
	if j.draft, wiped = j.wipe(draft, logNew); full && wiped == nil && j.spare != nil {
		spare := j.spare
		if w, err = j.snapshotIn(spare, logSpare, live); err == nil {
			j.spare = nil
			return w, nil
		}
		j.spare, wiped = j.wipe(spare, logSpare)
	}
	return nil, errors.Join(err, wiped)
}

// logSnapshot writes a snapshot.
type logSnapshot struct {
	j     *journal
	seg   *logSegment
	frame []byte
	seq   uint64
	ops   int
	bytes int64
	err   error
}

// snapshotIn writes a snapshot into the file s of that name.
func (j *journal) snapshotIn(s *logSegment, name string, live func(yield func(*record) bool)) (*logSnapshot, error) {
	j.number(s, true)
	w := &logSnapshot{j: j, seq: j.seq, seg: s}
	err := w.write(live)
	if err == nil {
		err = j.fs.rename(name, s.name)
	}
	return w, err
}

func (w *logSnapshot) write(live func(yield func(*record) bool)) error {
	if w.err = w.j.writeHead(w.seg, w.seq+1); w.err != nil {
		return w.err
	}
	w.frame = make([]byte, logFrame, logSnapFrame+logSnapFrame/4)
	live(w.add)
	w.flush(logGroup)
	w.flush(logEnd)
	if w.err == nil {
		w.err = w.seg.file.truncate(w.seg.end)
	}
	if w.err == nil {
		w.err = w.seg.file.sync()
	}
	return w.err
}

func (w *logSnapshot) add(r *record) bool {
	before := len(w.frame)
	w.frame = logAppendRecord(w.frame, r)
	if r.Kind == recOp {
		w.ops++
		w.bytes += int64(len(w.frame) - before)
	}
	if len(w.frame) >= logSnapFrame {
		w.flush(logGroup)
	}
	return w.err == nil
}

// flush writes the frame, unless it is an empty group.
func (w *logSnapshot) flush(kind uint32) {
	if w.err != nil || kind == logGroup && len(w.frame) == logFrame {
		return
	}
	w.seq++
	w.j.seal(w.seg, w.frame, w.seq, kind)
	_, w.err = w.seg.file.WriteAt(w.frame, w.seg.end)
	w.seg.end += int64(len(w.frame))
	w.frame = w.frame[:logFrame]
}

// replace puts a snapshot in the place of all segments.
func (j *journal) replace(w *logSnapshot) error {
	old, active := j.segments, j.active
	w.seg.close(j.log)
	j.segments, j.active = []*logSegment{w.seg}, nil
	j.seq, j.durable, j.unsynced, j.sick = w.seq, w.seq, nil, nil
	j.used, j.failed = w.seg.end, logTry{}
	j.open, j.ops, j.opBytes = w.ops, int64(w.ops), w.bytes
	if err := j.fs.syncDir(); err != nil {
		active.close(j.log)
		return err // the old ones stay until the journal is opened again
	}
	if j.spare == nil && active != nil && j.recycle(active) {
		old = slices.DeleteFunc(old, func(s *logSegment) bool { return s == active })
	}
	for _, s := range old {
		s.close(j.log)
		j.drop(s, s.damaged)
	}
	j.prepare()
	return nil
}

// recycle makes a segment the spare, so that its space stays ours. It loses its name
// before its content, as half of it would look like damage.
func (j *journal) recycle(s *logSegment) bool {
	if s.damaged || j.fs.rename(s.name, logSpare) != nil {
		return false
	}
	err := j.fs.syncDir()
	if err == nil {
		j.spare, err = j.wipe(s, logSpare)
	} else {
		s.close(j.log) // it is cleaned when it is adopted
	}
	if err != nil {
		j.log.Warn("the space of an old segment of the journal is of no use", "segment", s.name, "err", err)
	}
	return true
}

// drop removes a segment that is void, or sets it aside.
func (j *journal) drop(s *logSegment, aside bool) {
	var err error
	if aside {
		if err = j.fs.rename(s.name, s.name+logDamaged); err == nil {
			j.aside = append(j.aside, s.name+logDamaged)
		}
	} else {
		err = j.fs.remove(s.name)
	}
	if err != nil { // it is void, and tried again when the journal is opened
		j.log.Warn("an old segment of the journal is still there", "segment", s.name, "err", err)
	}
}

// dropVoid removes the segments that a snapshot has replaced. A process that ended while
// it did that has left them. They are kept aside if there is something wrong with them
// or with the snapshot.
func (j *journal) dropVoid() {
	last := len(j.segments) - 1
	for last >= 0 && !j.segments[last].snap {
		last--
	}
	if last <= 0 {
		return
	}
	aside := !j.segments[last].sound()
	for _, s := range j.segments[:last] {
		bad := aside || !s.sound()
		s.close(j.log)
		j.drop(s, bad)
	}
	j.segments = j.segments[last:]
}

// sound tells whether a segment has its head and all that was ever durable of it, as
// far as that can be seen in it alone.
func (s *logSegment) sound() bool {
	c, last, ended := newLogScan(s), s.head.first-1, false
	for c.next() {
		if f := &c.frame; f.seq > last+1 && (s.snap || f.durable > last) {
			return false
		}
		last, ended = c.frame.seq, c.frame.kind == logEnd
	}
	return s.headed && (ended || !s.snap)
}
