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
	for at := c.off; ; at = c.reader.find(word[:], at+1) {
		if at >= c.reader.size {
			c.seg.end = c.off
			c.seg.garbage = c.seg.garbage || c.reader.broken || !c.reader.blank(c.off, c.reader.size)
			return false
		}
		end, ok := c.check(at)
		if !ok {
			continue
		}
		c.seg.garbage = c.seg.garbage || at > c.off
		c.off = end
		return true
	}
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
	return logError(j.resume())
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
		if f.seq >= void || c.known && f.seq <= c.last {
			continue
		}
		c.gap(s, f)
		c.last, c.known = f.seq, true
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

// gap looks at what is missing before a frame. What was never synced may be missing
// after a loss of power.
func (c *logReplay) gap(s *logSegment, f *logFrameHead) {
	if !c.known || f.seq == c.last+1 {
		return
	}
	missing := f.seq - c.last - 1
	if f.durable <= c.last && (f.boot != c.j.boot || f.boot == 0) {
		c.j.log.Warn("changes that were not synced are lost with the power", "groups", missing, "segment", s.name)
		return
	}
	c.j.lost += missing
	if !s.garbage && c.prev != nil && c.prev.garbage {
		s = c.prev
	}
	c.damage(s, fmt.Sprintf("%d groups of changes before number %d are missing", missing, f.seq))
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

// resume prepares for appends: behind the last segment if it is sound.
func (j *journal) resume() error {
	if len(j.segments) > 0 {
		s := j.segments[len(j.segments)-1]
		if s.garbage && !s.damaged {
			j.log.Info("the end of the journal was cut off, as it was not written whole", "segment", s.name, "at", s.end)
		}
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
	if err := j.fs.syncDir(); err != nil {
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

// clean makes what is behind the end of a segment zero, and takes its space again.
func (j *journal) clean(s *logSegment) error {
	if s.garbage {
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
