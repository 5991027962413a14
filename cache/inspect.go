package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Report is what lies in a directory.
type Report struct {
	BlockSize int   // bytes
	Slots     int   // in the segments that are there
	Full      int   // slots with a block
	Empty     int   // slots without
	Broken    int   // slots that fail a check
	Bytes     int64 // in the blocks
	DiskBytes int64 // that the directory takes on the disk
	// Listings is the number of records of metadata; those that were replaced since are
	// counted as well, until their segment goes. BrokenListings fail a check.
	Listings, BrokenListings int
	// Objects is what the blocks belong to. A name may have been cut.
	Objects map[ObjectName]ObjectReport
}

// ObjectName names an object in a Report.
type ObjectName struct{ Branch, Object string }

// ObjectReport counts an object's blocks, of all versions.
type ObjectReport struct {
	Blocks int
	Bytes  int64
}

// Inspect reads the headers of all slots in dir. It takes no lock and changes nothing,
// so that it may look at a Store in use; what changes meanwhile may be missed. Blocks
// whose index entry is gone are counted as well.
func Inspect(ctx context.Context, dir string) (Report, error) {
	r, err := survey(ctx, dir, func(place, *header) error { return nil })
	if err == nil {
		err = r.metadata(ctx, filepath.Join(dir, metaDirName), func(*os.File, record) error { return nil })
	}
	return r, err
}

// Verify reads all blocks in dir and checks them. It takes the lock, so that no Store
// may have it open (*LockedError). With repair, slots that fail are marked as empty;
// a Store does not serve them in any case.
func Verify(ctx context.Context, dir string, repair bool) (r Report, err error) {
	if err := checkPrivate(dir); err != nil {
		return Report{}, err
	}
	file, err := lock(dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err = survey(ctx, dir, func(p place, h *header) error {
		if h == nil {
			if repair {
				return p.mark(slotFree, 0)
			}
			return nil
		}
		err := p.verify(h)
		if rotten(err) && repair {
			return errors.Join(err, p.mark(slotFree, h.generation))
		}
		return err
	})
	if err == nil {
		err = r.metadata(ctx, filepath.Join(dir, metaDirName), func(file *os.File, at record) error {
			_, _, err := readRecord(file, at.off, int(at.size()))
			return err
		})
	}
	return r, err
}

// metadata calls check for each record with a body and counts.
func (r *Report) metadata(ctx context.Context, dir string, check func(*os.File, record) error) error {
	numbers, err := segmentNumbers(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, n := range numbers {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		var all []record
		s, _, openErr := openSegment(dir, n, func(at record) { all = append(all, at) })
		if errors.Is(openErr, os.ErrNotExist) || errors.Is(openErr, errDamaged) {
			continue // it has just gone, or is of no use
		} else if openErr != nil {
			return openErr
		}
		for _, at := range all {
			if at.length == 0 {
				continue
			}
			r.Listings++
			if check(s.file, at) != nil {
				r.BrokenListings++
			}
		}
		err = s.file.Close()
	}
	return err
}

// Clear deletes everything in dir but the lock, and forgets its format. It takes the
// lock (*LockedError), and refuses a directory that is no block cache (ErrFormat).
func Clear(dir string) (err error) {
	if err := checkPrivate(dir); err != nil {
		return err
	}
	if _, err := readFormat(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	file, err := lock(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := wipe(dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, formatName))
}

// survey calls check for each slot with a block, with a nil header for each whose
// header is broken, and counts. A rotten error of check is counted, others end it.
func survey(ctx context.Context, dir string, check func(place, *header) error) (Report, error) {
	f, err := readFormat(dir)
	if err != nil {
		return Report{}, fmt.Errorf("block cache in %s: %w", dir, err)
	}
	r := Report{BlockSize: f.blockSize, Objects: map[ObjectName]ObjectReport{}}
	s := newSlab(dir, layout{blockSize: f.blockSize, segSlots: f.segSlots})
	for n := 0; err == nil; n++ {
		var file *os.File
		if file, err = os.OpenFile(s.path(n), os.O_RDWR, 0); errors.Is(err, os.ErrNotExist) {
			err = nil
			break
		} else if err == nil {
			err = errors.Join(r.segment(ctx, s, file, check), file.Close())
		}
	}
	if err == nil {
		r.DiskBytes, err = taken(dir)
	}
	return r, err
}

// segment counts the slots of one segment.
func (r *Report) segment(ctx context.Context, s *slab, file *os.File, check func(place, *header) error) error {
	for n := range s.segSlots {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.slot(place{s, file, int64(n) * s.slotSize()}, check); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) slot(p place, check func(place, *header) error) error {
	r.Slots++
	var h header
	err := p.readHeader(&h)
	switch {
	case err == nil && h.state != slotFull:
		r.Empty++
		return nil
	case err == nil:
		err = check(p, &h)
	case rotten(err):
		err = errors.Join(err, check(p, nil))
	}
	if rotten(err) {
		r.Broken++
		return nil
	} else if err != nil {
		return err
	}
	r.Full++
	r.Bytes += int64(h.length)
	name := ObjectName{h.branch, h.object}
	o := r.Objects[name]
	r.Objects[name] = ObjectReport{o.Blocks + 1, o.Bytes + int64(h.length)}
	return nil
}

// verify checks all bytes of the slot.
func (p place) verify(h *header) error {
	buf := make([]byte, chunkSize)
	for n := 0; n*chunkSize < h.length; n++ {
		if err := p.readWhole(h, n, buf[:h.chunkLen(n)]); err != nil {
			return err
		}
	}
	return nil
}
