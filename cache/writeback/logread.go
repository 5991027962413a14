package writeback

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// logScan finds the frames of a segment.
type logScan struct {
	seg    *logSegment
	reader logReader
	off    int64 // where to look for the next
	frame  logFrameHead
	body   []byte // of frame; valid until the next
}

func newLogScan(s *logSegment) *logScan {
	return &logScan{seg: s, reader: logReader{file: s.file, size: s.size}, off: logHead}
}

// next goes to the next frame that checks. Without another it returns false, and
// seg.end is behind the last. It notes if there was something else on the way.
func (c *logScan) next() bool {
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], logWord)
	blank := c.off >= c.reader.size
	for at := c.off; at < c.reader.size && !blank; at = c.reader.find(word[:], at+1) {
		if end, ok := c.check(at); ok {
			c.seg.garbage = c.seg.garbage || at > c.off
			c.off = end
			return true
		}
		blank = at == c.off && c.reader.blank(at, c.reader.size) // mostly this is the end
	}
	c.seg.end = c.off
	c.seg.garbage = c.seg.garbage || c.reader.broken || !blank
	return false
}

// check reads a frame at off and returns where it ends.
func (c *logScan) check(off int64) (end int64, ok bool) {
	var f logFrameHead
	if !f.decode(c.reader.at(off, logFrame), c.seg.n, off) {
		return 0, false
	}
	size := logFrame + int64(f.length)
	if size > c.reader.size-off {
		return 0, false
	}
	body := c.reader.at(off, int(size))[logFrame:]
	if f.body != logSum(c.seg.n, off, body) {
		return 0, false
	}
	c.frame, c.body = f, body
	return off + size, true
}

// load opens a segment and reads its head.
func (j *journal) load(name string) (*logSegment, error) {
	n, snap, _ := logNumber(name)
	file, err := j.fs.open(name)
	if err != nil {
		return nil, err
	}
	s := &logSegment{name: name, n: n, snap: snap, file: file}
	if s.size, err = file.size(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r := logReader{file: file, size: s.size}
	s.headed = s.head.decode(r.at(0, logHead)) && s.head.n == n
	s.end = min(s.size, logHead)
	if s.headed && s.head.version > logVersion {
		err = fmt.Errorf("%w: %s is of version %d", errLogVersion, name, s.head.version)
		return nil, errors.Join(&remote.Error{Op: "journal", Kind: remote.Unsupported, Err: err}, file.Close())
	}
	return s, nil
}

// logReplay is what replay knows while it reads.
type logReplay struct {
	j     *journal
	each  func(r *record, sameBoot bool) error
	last  uint64 // of the groups so far
	known bool   // last is known
	prev  *logSegment
	dones int
	tail  [][]byte // the last groups, if they are perhaps only in the page cache
}

// replay hands out the records in their order. It is called once, before the first
// append. sameBoot tells that a record was written since the machine was started. An
// error of each ends it and is returned.
func (j *journal) replay(each func(r *record, sameBoot bool) error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ready {
		return &remote.Error{Op: "journal", Kind: remote.Invalid, Err: errors.New("the journal was read before")}
	}
	c := &logReplay{j: j, each: each}
	for i, s := range j.segments {
		if err := c.segment(s, j.voidFrom(i)); err != nil {
			return err
		}
	}
	j.seq = c.last
	j.open = max(j.open-c.dones, 0)
	return logError(j.resume(c.tail))
}

// voidFrom returns the first group that does not count in segment i, as a later segment
// has it again.
func (j *journal) voidFrom(i int) uint64 {
	void := ^uint64(0)
	for _, s := range j.segments[i+1:] {
		if s.headed {
			void = min(void, s.head.first)
		}
	}
	return void
}

func (c *logReplay) segment(s *logSegment, void uint64) error {
	switch {
	case c.prev != nil:
	case !s.snap:
		c.known = true // without a snapshot, the first group is number 1
	case s.headed:
		c.last, c.known = s.head.first-1, true
	}
	scan, ended := newLogScan(s), false
	for scan.next() {
		f := &scan.frame
		ended = ended || f.kind == logEnd
		c.trim(f.durable)
		if f.kind == logMark {
			c.gap(s, f, f.seq+1)
			c.last = max(c.last, f.seq)
			continue
		}
		if f.seq >= void || c.known && f.seq <= c.last {
			continue
		}
		c.gap(s, f, f.seq)
		c.last, c.known = f.seq, true
		c.keep(s, f, scan.body)
		if err := c.group(s, f, scan.body); err != nil {
			return err
		}
	}
	if !s.headed || s.snap && !ended {
		c.damage(s, "its head or its end is missing")
	}
	c.j.used += s.end
	c.prev = s
	return nil
}

// trim lets go of what is known to be on the disk.
func (c *logReplay) trim(durable uint64) {
	first := c.last + 1 - uint64(len(c.tail))
	if n := min(durable+1, c.last+1); n > first {
		c.tail = slices.Delete(c.tail, 0, int(n-first))
	}
}

// keep notes a group that a process of this boot wrote, perhaps the last before it ended.
// We read what the kernel has, and that may be more than the disk: nobody knows whether
// a sync failed meanwhile.
func (c *logReplay) keep(s *logSegment, f *logFrameHead, body []byte) {
	if f.kind == logGroup && f.boot == c.j.boot && !s.snap {
		frame := make([]byte, logFrame, logFrame+len(body))
		c.tail = append(c.tail, append(frame, body...))
	} else {
		c.tail = nil
	}
}

// gap looks at what is missing at a frame before group next. What was never synced may
// be missing after a loss of power.
func (c *logReplay) gap(s *logSegment, f *logFrameHead, next uint64) {
	if !c.known || next <= c.last+1 {
		return
	}
	missing := next - c.last - 1
	c.tail = nil // it has no gaps
	if f.durable <= c.last && (f.boot != c.j.boot || f.boot == 0) {
		c.j.log.Warn("changes that were not synced are lost with the power", "groups", missing, "segment", s.name)
		return
	}
	c.j.lost += missing
	if !s.garbage && c.prev != nil && c.prev.garbage {
		s = c.prev
	}
	c.damage(s, fmt.Sprintf("%d groups of changes before number %d are missing", missing, next))
}

func (c *logReplay) damage(s *logSegment, what string) {
	s.damaged = true
	c.j.log.Error("the journal of changes is damaged", "segment", s.name, "what", what)
}

// group hands out the records of a frame.
func (c *logReplay) group(s *logSegment, f *logFrameHead, body []byte) error {
	if f.kind == logEnd {
		return nil
	}
	group, err := logDecode(body)
	if f.kind != logGroup || err != nil {
		c.j.lost++
		c.damage(s, fmt.Sprintf("group %d is not understood", f.seq))
		return nil
	}
	for _, r := range group {
		switch r.Kind {
		case recOp:
			c.j.count(1, int64(len(body)/len(group)))
		case recDone:
			c.dones++
		}
		if err := c.each(r, f.boot == c.j.boot && f.boot != 0); err != nil {
			return err
		}
	}
	return nil
}

// resume prepares for appends: with the tail in a new segment, or behind the last segment
// if there is no tail.
func (j *journal) resume(tail [][]byte) error {
	var last *logSegment
	if len(j.segments) > 0 {
		last = j.segments[len(j.segments)-1]
	}
	if err := j.repeat(tail); err != nil {
		return err
	}
	if j.active != nil {
		j.retire(last)
	} else if err := j.proceed(last); err != nil {
		return err
	}
	for _, s := range j.segments {
		if s != j.active {
			s.close(j.log)
		}
	}
	j.durable, j.ready = j.seq, true
	j.prepare()
	return nil
}

// repeat writes the tail again. If there is no space for that, it has to do as it is.
func (j *journal) repeat(tail [][]byte) error {
	if len(tail) == 0 {
		return nil
	}
	j.unsynced = tail
	err := j.begin()
	if err == nil || !logNoSpace(err) {
		return err
	}
	j.unsynced = nil
	j.log.Warn("no space to write the end of the journal again", "err", err)
	return nil
}

// retire cuts off what is behind the end of a segment that was the last.
func (j *journal) retire(s *logSegment) {
	if s.damaged {
		return
	}
	if err := s.file.truncate(s.end); err != nil {
		j.log.Debug("the end of the journal could not be cut off", "segment", s.name, "err", err)
		return
	}
	s.size = s.end
}

// proceed goes on behind the end of the last segment, if it is sound.
func (j *journal) proceed(s *logSegment) error {
	if s != nil {
		if !s.snap && !s.damaged && s.headed {
			if err := j.clean(s); err != nil {
				return err
			}
			j.active = s
		}
		if err := s.file.sync(); err != nil {
			return err
		}
	}
	return j.fs.syncDir()
}

// clean makes what is behind the end of a segment zero, and takes its space again.
func (j *journal) clean(s *logSegment) error {
	if s.garbage {
		j.log.Info("the end of the journal is cut off, as it was not written whole", "segment", s.name, "at", s.end)
		if err := logZero(s.file, s.end, s.size); err != nil {
			return err
		}
		s.garbage = false
	}
	if err := s.file.allocate(s.size); logNoSpace(err) {
		s.size = s.end // another one begins in the spare
	} else if err != nil {
		return err
	}
	return nil
}

// damage says what is wrong with the journal, for people; "" if nothing is.
func (j *journal) damage() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var parts, names []string
	for _, s := range j.segments {
		if s.damaged {
			names = append(names, s.name)
		}
	}
	if len(names) > 0 {
		parts = append(parts, "damaged: "+strings.Join(names, ", "))
	}
	if j.lost > 0 {
		parts = append(parts, fmt.Sprintf("groups of changes that are lost: %d", j.lost))
	}
	if len(j.aside) > 0 {
		slices.Sort(j.aside)
		parts = append(parts, "set aside: "+strings.Join(j.aside, ", "))
	}
	return strings.Join(parts, "; ")
}
