package cache

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// run writes what is in the queue, in its order, until the log is closed.
func (l *metaLog) run() {
	for {
		batch, wiped, ok := l.next()
		if !ok {
			return
		}
		var err error
		if wiped {
			err = l.removeAll()
		}
		for _, w := range batch {
			if err == nil {
				err = l.put(w)
			}
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// next waits for something to write; ok is false when the log is closed and all is
// written.
func (l *metaLog) next() (batch []*write, wiped, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.wiped && !l.closing {
		l.cond.Wait()
	}
	batch, wiped = l.queue, l.wiped
	l.queue, l.wiped = nil, false
	return batch, wiped, wiped || len(batch) > 0
}

// fail ends the use of the disk for good, and deletes what is there.
func (l *metaLog) fail(err error) {
	l.mu.Lock()
	l.reason = err
	l.wipe()
	l.wiped = false
	l.mu.Unlock()
	if err := l.removeAll(); err != nil {
		l.log.Debug("metadata could not be deleted", "dir", l.dir, "err", err)
	}
	l.log.Warn("listings are not remembered any more", "dir", l.dir, "err", err)
}

// put writes one record. If there is no space, the oldest go for it.
func (l *metaLog) put(w *write) error {
	l.mu.Lock()
	text := w.kind == recordListing || w.kind == recordMark
	stale := text && l.waiting[w.key] != w // a newer one follows, or it was forgotten
	l.queued -= min(len(w.p), l.queued)
	l.mu.Unlock()
	if stale {
		return nil
	}
	for {
		s, err := l.current(w.size())
		if err == nil {
			if err = s.append(&w.record, w.p); err == nil {
				l.written(s, w)
				return nil
			}
		}
		if !noSpace(err) {
			return err
		}
		if len(l.segments) == 0 {
			l.giveUp(w)
			return nil // there is nothing that would have to be forgotten
		}
		if _, err := l.dropOldest(false); err != nil {
			return err
		}
	}
}

func noSpace(err error) bool {
	return errors.Is(err, errNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// written makes a record known that is on the disk.
func (l *metaLog) written(s *metaSegment, w *write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := spotOf(s.n, w.off)
	l.bytes += int64(len(w.p))
	if t, ok := l.trees[w.key]; ok && w.kind == recordPrune && t.turn == w.turn {
		l.trees[w.key] = pruned{t.turn, at}
	}
	if l.waiting[w.key] == w {
		delete(l.waiting, w.key)
		l.index[w.key] = kept{at: at, turn: w.turn, size: int32(len(w.p))}
	}
}

// current returns a segment with room for n bytes more.
func (l *metaLog) current(n int64) (*metaSegment, error) {
	if len(l.segments) > 0 {
		s := l.segments[len(l.segments)-1]
		if s.room(n, l.segSize) {
			return s, nil
		}
		before := s.end
		if err := s.seal(); err != nil {
			return nil, err
		}
		if st, err := s.file.Stat(); err == nil {
			l.grow(st.Size() - before)
		}
	}
	var rescued []*write
	for len(l.segments) >= l.segMax || l.many() {
		more, err := l.dropOldest(len(rescued) == 0)
		if err != nil {
			return nil, err
		}
		rescued = append(rescued, more...)
	}
	s, err := l.extend()
	for _, w := range rescued {
		if err == nil {
			err = l.again(s, w)
		}
		if err != nil {
			l.giveUp(w)
		}
	}
	return s, err
}

// giveUp forgets what waited to be written.
func (l *metaLog) giveUp(w *write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[w.key] == w {
		delete(l.waiting, w.key)
		l.count.Dropped++
	}
}

func (l *metaLog) grow(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += n
}

// many tells whether there are more records than may be known.
func (l *metaLog) many() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.index) > maxKept && len(l.segments) > 0
}

// extend makes a new segment.
func (l *metaLog) extend() (*metaSegment, error) {
	if !l.spares(l.segSize) {
		return nil, errNoSpace
	}
	n := uint32(1)
	if len(l.segments) > 0 {
		n = l.segments[len(l.segments)-1].n + 1
	}
	s, err := createSegment(l.dir, n)
	if err != nil {
		return nil, err
	}
	l.segments = append(l.segments, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[n] = s.file
	l.bytes += metaHead
	return s, nil
}

// dropOldest removes the oldest segment. With again, it returns what is to be written
// again, which waits then.
func (l *metaLog) dropOldest(again bool) ([]*write, error) {
	s := l.segments[0]
	st, err := s.file.Stat()
	if err != nil {
		return nil, err
	}
	var all []record
	if _, err := s.load(st.Size(), func(r record) { all = append(all, r) }); err != nil {
		return nil, err
	}
	rescued := l.rescue(s, all, again)
	l.segments = l.segments[1:]
	l.mu.Lock()
	l.bytes -= st.Size()
	delete(l.files, s.n)
	for key, t := range l.trees {
		if t.at != 0 && t.at.segment() == s.n {
			delete(l.trees, key)
		}
	}
	l.mu.Unlock()
	return rescued, s.remove()
}

// rescue forgets the records of a segment, and returns those that are worth to be
// written again: marks, and up to a third of a segment of used listings.
func (l *metaLog) rescue(s *metaSegment, all []record, again bool) []*write {
	var rescued []*write
	room := l.segSize / 3
	for _, r := range all {
		at := spotOf(s.n, r.off)
		l.mu.Lock()
		k, ok := l.index[r.key]
		ok = ok && k.at == at
		l.mu.Unlock()
		if !ok {
			continue
		}
		w := &write{turn: k.turn}
		wanted := again && (r.kind == recordMark || k.used && r.size() <= room) && l.fetch(s, k, w)
		l.mu.Lock()
		if k, ok = l.index[r.key]; ok && k.at == at {
			delete(l.index, r.key)
			if _, newer := l.waiting[r.key]; wanted && !newer {
				l.waiting[r.key] = w
				rescued = append(rescued, w)
				room -= r.size()
			}
		}
		l.mu.Unlock()
	}
	return rescued
}

// fetch reads a record that is to be written again, unless it was forgotten.
func (l *metaLog) fetch(s *metaSegment, k kept, w *write) bool {
	r, body, err := readRecord(s.file, k.at.off(), int(k.size))
	if err != nil {
		return false
	}
	d := decoder{p: string(body)}
	branch, dir := d.text(), d.text()
	t := Tree{log: l, branch: branch, seed: hashText(hashSeed, branch)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.kind == recordListing && l.dead(t.line(dir), k.turn) {
		return false
	}
	if k.at < l.trust {
		r.at = 0
	}
	w.record = r
	w.p = w.encode(body)
	return true
}

// again writes a record that was rescued. There is room for all of them in one segment.
func (l *metaLog) again(s *metaSegment, w *write) error {
	l.mu.Lock()
	stale := l.waiting[w.key] != w
	l.mu.Unlock()
	if stale {
		return nil
	}
	if !s.room(w.size(), l.segSize) {
		l.giveUp(w)
		return nil
	}
	if err := s.append(&w.record, w.p); err != nil {
		return err
	}
	l.written(s, w)
	return nil
}

// close writes what waits, and says that the log is whole. If that fails, the ages of
// what is in it will not hold.
func (l *metaLog) close() {
	l.mu.Lock()
	l.closing = true
	l.cond.Broadcast()
	l.mu.Unlock()
	l.writer.Wait()
	l.mu.Lock()
	failed, trust := l.reason != nil, l.trust
	l.mu.Unlock()
	if failed {
		return // that was told when it happened
	}
	var err error
	if n := len(l.segments); n > 0 {
		err = l.segments[n-1].file.Sync()
	}
	if err == nil {
		err = writeClean(filepath.Join(l.dir, cleanName), l.end(), trust)
	}
	if err = errors.Join(err, l.closeFiles()); err != nil {
		l.log.Debug("the metadata was not closed", "dir", l.dir, "err", err)
	}
}

// cleanWord begins the file that says that the log is whole: it ends at a spot, and the
// ages of records from another spot on hold.
const cleanWord = "meshmount-meta"

func writeClean(path string, end, trust spot) error {
	text := fmt.Sprintf("%s %d %d %d\n", cleanWord, metaVersion, uint64(end), uint64(trust))
	if err := replace(path, fmt.Appendf(nil, "%s%08x\n", text, crc32.Checksum([]byte(text), castagnoli))); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// readClean returns an impossible end if there is no such file.
func readClean(path string) (end, trust spot) {
	const never = ^spot(0)
	text, err := os.ReadFile(path)
	var word string
	var version, sum uint32
	if err != nil {
		return never, never
	}
	n, err := fmt.Sscanf(string(text), "%s %d %d %d\n%x\n", &word, &version, &end, &trust, &sum)
	line := len(text) - 9
	if n != 5 || err != nil || word != cleanWord || version != metaVersion || line < 0 ||
		sum != crc32.Checksum(text[:line], castagnoli) {
		return never, never
	}
	return end, trust
}

// removeDurably deletes a file in dir, so that it stays deleted after a loss of power.
func removeDurably(dir, name string) error {
	err := os.Remove(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// bootID stands for the time since the machine was started, 0 if that is not known.
func bootID() uint64 {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(text) == 0 {
		return 0
	}
	return hashText(hashSeed, string(text))
}

// bootedAt is when the machine was started, in ns since 1970, by the clock as it goes
// now. It differs from what it was before if the clock was set.
func bootedAt() int64 {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return 0
	}
	return time.Now().UnixNano() - up.Nano()
}

// age returns when a record was asked for, by the clock as it goes now, or zero.
func (l *metaLog) age(r record) time.Time {
	if r.at == 0 {
		return time.Time{}
	}
	at := time.Unix(0, r.at)
	if set := time.Duration(bootedAt() - r.booted); l.boot != 0 && r.boot == l.boot && set.Abs() > clockNoise {
		return at.Add(set)
	}
	return at
}

// clockNoise is more than the two clocks of bootedAt are read apart on a loaded machine.
const clockNoise = time.Second
