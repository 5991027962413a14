package writeback

// The journal on the disk, version 1.
//
// A journal is a directory of segments, whose numbers ascend and are not used twice:
//
//	journal-%08x   groups of records in the order in which they were appended
//	snapshot-%08x  what was live when it was made; all with lower numbers is void
//	journal-spare  space for the next segment, taken from the disk ahead
//	journal-new    space for a small snapshot, or one that is not finished
//	NAME.damaged   a segment of which something could not be read, kept for people
//
// A segment begins with a head of 128 bytes, little-endian: the word "MMJOURNL", version
// (4 bytes), number (4), first group (8), time of its making (ns since 1970, 8), length of
// the boot id (1) and the boot id (64), zeros, and in the last 4 bytes the CRC-32C of those
// before. What earlier segments hold of the first group and later ones does not count:
// this segment has it again (see below).
//
// Frames follow, one for each group. The head of a frame has 44 bytes: the word "MMFJ", the
// sum of the rest of the head (4), the sum of the records (4), their length (4), kind (4;
// 1: a group, 2: the end of a snapshot, 3: the mark of a journal that was closed), boot (8,
// FNV-1a of the boot id), number of the group (8; of a mark: of that before), and the
// number of the last group that was on stable storage by then (8).
// A sum is the CRC-32C of the number of the segment (4), the offset of the frame (8) and
// the bytes, so that a frame counts only where it was written. The records follow, each
// behind its length as a varint; see record.go for their form. The rest of a segment is
// zero.
//
// What a crash leaves. A group is one frame, written at once: its sums hold or it is not
// there. A process that is killed leaves at most half a frame behind the last; it was not
// acknowledged, and replay cuts it off. A loss of power may leave any of the frames that
// were not synced. The numbers show which are missing, and the frame behind a gap shows
// whether they had been durable: then the segment is damaged, otherwise these are changes
// that nobody was told to be safe. In either case replay goes on at the next frame that
// checks, and a damaged segment is never deleted. A segment gets its name when its head
// is on the disk, and a snapshot when all of it is, so that there is always either
// the snapshot or what it replaces.
//
// After an error of fdatasync the kernel may have dropped what it could not write, and
// would call the next one a success. So the file is not used any more: what was not
// synced is still in memory, and goes into a new segment, which gets its name when it is
// on the disk. A process that reads the journal of another that was killed does the same
// with the groups of which it does not see that they were durable.
//
// A full disk. The next segment is allocated ahead, and of the space that is allocated a
// reserve is kept for the small records that say what became of changes: there can be no
// change that is made and cannot be recorded as made. New changes get NoSpace first. A
// snapshot of a few changes has space of its own, so that what is done gives its space
// back.

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// logOptions are the options of openLog.
type logOptions struct {
	SegmentSize int64  // 0 means 4 MiB
	BootID      string // "" means that of the kernel
	Reserve     int64  // bytes that changes leave for other records; 0 means 1 MiB
	Logger      *slog.Logger
	fs          logFS // of tests
}

// journal is an append-only log of groups of records. It is safe for concurrent use.
// All errors are *remote.Error.
type journal struct {
	fs      logFS
	log     *slog.Logger
	segSize int64
	reserve int64
	bootID  string
	boot    uint64

	mu       sync.Mutex
	cond     *sync.Cond    // told when syncing ends
	segments []*logSegment // guarded by mu; ascending
	active   *logSegment   // guarded by mu; the last, nil: the next append makes one
	spare    *logSegment   // guarded by mu; nil: there is no space for it
	draft    *logSegment   // guarded by mu; where snapshots are written; may be nil
	next     uint32        // guarded by mu; number of the next segment
	ready    bool          // guarded by mu; replay is done, and it is not closed
	seq      uint64        // guarded by mu; of the last group
	durable  uint64        // guarded by mu; groups up to this are on stable storage
	unsynced [][]byte      // guarded by mu; the frames of the groups behind durable
	syncing  bool          // guarded by mu; somebody syncs active without mu
	sick     error         // guarded by mu; why active is not written to any more
	open     int           // guarded by mu; changes that other records will follow
	ops      int64         // guarded by mu; changes that were seen, and
	opBytes  int64         // guarded by mu; the bytes of them
	used     int64         // guarded by mu; bytes in segments
	failed   logTry        // guarded by mu; the last compaction, if it failed
	lost     uint64        // guarded by mu; groups that were synced and cannot be read
	aside    []string      // guarded by mu; names of damaged segments that are kept
}

// openLog opens the journal in dir, or makes one. Nothing else may use dir meanwhile.
func openLog(dir string, opts logOptions) (*journal, error) {
	fs := opts.fs
	if fs == nil {
		if err := logDir(dir).make(); err != nil {
			return nil, logError(err)
		}
		fs = logDir(dir)
	}
	j := &journal{fs: fs, log: opts.Logger, segSize: opts.SegmentSize, reserve: opts.Reserve, bootID: opts.BootID, next: 1}
	j.cond = sync.NewCond(&j.mu)
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.segSize <= 0 {
		j.segSize = 4 << 20
	}
	if j.reserve <= 0 {
		j.reserve = 1 << 20
	}
	if j.bootID == "" {
		text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // "": no two records are of one boot
		j.bootID = strings.TrimSpace(string(text))
	}
	j.boot = logBoot(j.bootID)
	if err := j.find(); err != nil {
		return nil, errors.Join(err, j.closeFiles())
	}
	return j, nil
}

// find opens what is in the directory.
func (j *journal) find() error {
	names, err := j.fs.list()
	if err != nil {
		return logError(err)
	}
	for _, name := range names {
		_, _, ok := logNumber(name)
		switch {
		case ok:
			s, err := j.load(name)
			if err != nil {
				return logError(err)
			}
			j.segments = append(j.segments, s)
			j.next = max(j.next, s.n+1)
		case name == logNew:
			if j.draft, err = j.adopt(name); err != nil {
				return logError(err)
			}
		case strings.HasSuffix(name, logDamaged):
			j.aside = append(j.aside, name)
			if n, _, ok := logNumber(strings.TrimSuffix(name, logDamaged)); ok {
				j.next = max(j.next, n+1)
			}
		case name == logSpare:
			if j.spare, err = j.adopt(name); err != nil {
				return logError(err)
			}
		}
	}
	slices.SortFunc(j.segments, func(a, b *logSegment) int { return int(a.n) - int(b.n) })
	j.dropVoid()
	return nil
}

// append adds a group: after a crash there is all of it or nothing. With sync, it and
// all before it are on stable storage then. With Kind NoSpace nothing was added, and the
// journal goes on; a group without recOp has space in reserve. With Unsure, the group was
// added and outlives the process, but is not on stable storage. After another error it
// does not count now, but may be there after a crash: the disk did not obey.
func (j *journal) append(group []*record, sync bool) error {
	return j.add(group, sync, false)
}

// appendReserved is append with the space in reserve also for a group with recOp: one
// that says what became of changes, and that others are not as they were.
func (j *journal) appendReserved(group []*record, sync bool) error {
	return j.add(group, sync, true)
}

func (j *journal) add(group []*record, sync, reserved bool) error {
	if len(group) == 0 && !sync {
		return nil
	}
	frame, ops := logEncode(group), 0
	for _, r := range group {
		if r.Kind == recOp && !reserved {
			ops++
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.usable()
	if err == nil && len(group) > 0 {
		err = j.put(frame, ops)
	}
	if err == nil && sync {
		if err = j.syncTo(j.seq); err != nil {
			err = &remote.Error{Op: "journal", Kind: remote.Other, Err: err, Unsure: true}
		}
	}
	return logError(err)
}

// usable is called with mu held.
func (j *journal) usable() error {
	if !j.ready {
		return &remote.Error{Op: "journal", Kind: remote.BadHandle, Err: errors.New("the journal is not open")}
	}
	return nil
}

// put writes a frame with as many changes. Called with mu held.
func (j *journal) put(frame []byte, ops int) error {
	if len(frame) > logGroupMax {
		return &remote.Error{Op: "journal", Kind: remote.TooLarge}
	}
	if err := j.makeRoom(int64(len(frame)), ops); err != nil {
		return err
	}
	err := j.write(frame)
	if err != nil && j.sick != nil && j.makeRoom(int64(len(frame)), ops) == nil {
		err = j.write(frame) // in another file
	}
	if err != nil {
		return err
	}
	j.unsynced = append(j.unsynced, frame)
	if ops > 0 {
		j.count(ops, int64(len(frame)))
	}
	return nil
}

// write writes a frame to active, where there is room for it. After an error nothing of
// it stays, or active is sick. Called with mu held.
func (j *journal) write(frame []byte) error {
	s := j.active
	j.seal(s, frame, j.seq+1, logGroup)
	if _, err := s.file.WriteAt(frame, s.end); err != nil {
		if undone := j.undo(s, int64(len(frame))); undone != nil || !logNoSpace(err) {
			j.sick = errors.Join(err, undone)
		}
		return err
	}
	s.end += int64(len(frame))
	j.used += int64(len(frame))
	j.seq++
	return nil
}

// undo makes n bytes behind the end of s zero, or cuts them off.
func (j *journal) undo(s *logSegment, n int64) error {
	if logZero(s.file, s.end, s.end+n) == nil {
		return nil
	}
	s.size = s.end
	return s.file.truncate(s.end)
}

// seal completes a frame for the end of s.
func (j *journal) seal(s *logSegment, frame []byte, seq uint64, kind uint32) {
	f := logFrameHead{kind: kind, boot: j.boot, seq: seq, durable: j.durable}
	f.seal(frame, s.n, s.end)
}

// count notes changes of bytes in all. Called with mu held.
func (j *journal) count(ops int, bytes int64) {
	j.open += ops
	j.ops += int64(ops)
	j.opBytes += bytes
}

// sync brings all that was appended to stable storage.
func (j *journal) sync() error { return j.append(nil, true) }

// syncTo waits until the groups up to seq are on stable storage. One caller syncs for
// all that wait. Called with mu held.
func (j *journal) syncTo(seq uint64) error {
	for j.durable < seq {
		if j.syncing {
			j.cond.Wait()
			continue
		}
		if j.sick != nil {
			if err := j.heal(); err != nil {
				return err
			}
			continue // what was not synced is on the disk now
		}
		target, file := j.seq, j.active.file
		j.syncing = true
		j.mu.Unlock()
		err := file.sync()
		j.mu.Lock()
		j.syncing = false
		j.cond.Broadcast()
		j.synced(target, err)
	}
	return nil
}

// synced notes the outcome of a sync of active. Called with mu held.
func (j *journal) synced(target uint64, err error) {
	if err != nil {
		j.sick = err
		j.log.Warn("the journal could not be synced; it goes on in another file", "segment", j.active.name, "err", err)
		return
	}
	j.unsynced = slices.Delete(j.unsynced, 0, int(target-j.durable))
	j.durable = target
}

// syncHeld is syncTo for all, during which nobody else comes in. Called with mu held.
func (j *journal) syncHeld() error {
	j.settle()
	if j.sick == nil && j.durable < j.seq {
		j.synced(j.seq, j.active.file.sync())
	}
	if j.durable == j.seq {
		return nil
	}
	return j.heal()
}

// mark says behind the last group that it is durable, for who opens the journal next.
func (j *journal) mark() error {
	if s := j.active; s.rest() >= logFrame && j.sick == nil {
		frame := make([]byte, logFrame)
		j.seal(s, frame, j.seq, logMark)
		_, err := s.file.WriteAt(frame, s.end)
		s.end += logFrame
		return err
	}
	return nil
}

// settle waits until nobody syncs. Called with mu held.
func (j *journal) settle() {
	for j.syncing {
		j.cond.Wait()
	}
}

// close syncs what was appended and closes the files.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.ready {
		if err = j.syncHeld(); err == nil {
			err = j.mark()
		}
	}
	j.ready = false
	return logError(errors.Join(err, j.closeFiles()))
}

func (j *journal) closeFiles() error {
	var err error
	for _, s := range append(j.segments, j.spare, j.draft) {
		if s != nil && s.file != nil {
			err = errors.Join(err, s.file.Close())
			s.file = nil
		}
	}
	return err
}

// logError gives an error its kind.
func logError(err error) error {
	if err == nil {
		return nil
	}
	kind := remote.Other
	if logNoSpace(err) {
		kind = remote.NoSpace
	}
	return remote.E("journal", "", kind, err)
}
