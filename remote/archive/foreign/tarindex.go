package foreign

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// ReadTar returns what is in a tar archive (ustar, PAX, GNU), in one walk over its headers.
// Where members are large, their content is skipped; archives of small members are read
// nearly whole, because each header is only found by the one before it. An archive that is
// cut off is an error, never a shorter list, and so is one that takes more than MaxTarRequests
// or MaxTarBytes to walk through. The errors are *FormatError and those of src.
func ReadTar(ctx context.Context, src Ranged) (*Contents, error) {
	w := &walker{ctx: ctx, src: src, bounded: true}
	r := tar.NewReader(w)
	var b builder
	for end := int64(0); ; {
		h, err := r.Next()
		switch {
		case err == io.EOF && src.Size > 0 && w.pos < end+tarBlock:
			return nil, damaged("the tar archive is cut off: its end is missing")
		case err == io.EOF:
			return b.finish()
		case w.err != nil:
			return nil, w.err
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return nil, damaged("this is no tar archive, or it is damaged or cut off near byte %d", w.pos)
		case h.Size < 0 || w.pos > src.Size || hasContent(h) && !isSparse(h) && h.Size > src.Size-w.pos: // in this order: no sum overflows
			return nil, damaged("the tar archive is cut off in its last member")
		}
		if err := b.addTar(h, w.pos); err != nil {
			return nil, err
		}
		if end = w.pos; hasContent(h) && !isSparse(h) {
			end += (h.Size + tarBlock - 1) / tarBlock * tarBlock
		}
	}
}

// tarBlock is the unit of tar archives, in bytes. Blocks of zeros mark the end.
const tarBlock = 512

// hasContent tells whether a header is that of a file.
func hasContent(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse
}

// isSparse tells whether a file is stored without its holes.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") || strings.HasPrefix(key, "SCHILY.realsize") {
			return true
		}
	}
	return false
}

// addTar takes a member in whose content begins at an offset.
func (b *builder) addTar(h *tar.Header, at int64) error {
	e := entry{Item: Item{Path: h.Name, Mode: uint32(h.Mode) & 0o7777}}
	e.MTime = nanoseconds(h.ModTime)
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return nil // about others
	case hasContent(h):
		e.Type, e.Size, e.Packed, e.At = remote.File, h.Size, h.Size, at
		if isSparse(h) {
			e.Flaw = Sparse
		}
	case h.Typeflag == tar.TypeDir:
		if _, ok := cleanName(h.Name); !ok && strings.Trim(h.Name, "./") == "" && !strings.Contains(h.Name, "..") {
			return nil // "./", the archive itself
		}
		e.Type = remote.Dir
	case h.Typeflag == tar.TypeSymlink:
		e.Type, e.Target = remote.Symlink, h.Linkname
	case h.Typeflag == tar.TypeLink && h.Linkname != "":
		e.Type, e.link = remote.File, h.Linkname
	default: // devices, pipes, parts of other volumes
		b.leftOut++
		return nil
	}
	return b.add(e)
}

// nanoseconds returns a time as Item has it.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() || t.Year() < 1700 || t.Year() > 2200 {
		return 0 // it would not fit
	}
	return t.UnixNano()
}
