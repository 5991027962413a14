package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrDamaged is wrapped by the errors of a file that is no archive of ours, or not any more.
var ErrDamaged = errors.New("no whole archive of meshmount")

// damaged makes an error of it.
func damaged(text string, args ...any) error {
	return fmt.Errorf("%w: "+text, append([]any{ErrDamaged}, args...)...)
}

// ShortError says that Parse needs more of the end of the file.
type ShortError struct {
	From int64 // the offset from which on it is needed
}

// Error returns that text.
func (e *ShortError) Error() string { return fmt.Sprintf("more is needed, from byte %d on", e.From) }

// FirstTail is how much of the end of an archive is worth reading at first, in bytes: it
// holds directory and manifest of some 500 members.
const FirstTail = 128 << 10

// Parse reads the index out of the end of the file of a generation of the archive id, which is
// size bytes long. Everything is checked: bounds, names, that members lie where they must, that the
// manifest is as it was written and says the same as the directory. An error wraps
// ErrDamaged, or is a *ShortError, with which it is to be called again.
func Parse(id ID, generation int, tail []byte, size int64) (*Index, error) {
	from := size - int64(len(tail))
	if size > MaxSize || size < endLen || len(tail) < endLen {
		return nil, damaged("%d bytes of %d", len(tail), size)
	}
	end, le := tail[len(tail)-endLen:], binary.LittleEndian
	n, length, directory := int(le.Uint16(end[10:])), int64(le.Uint32(end[12:])), int64(le.Uint32(end[16:]))
	switch {
	case le.Uint32(end) != endSig || le.Uint32(end[4:]) != 0 || le.Uint16(end[20:]) != 0:
		return nil, damaged("it does not end as one")
	case int(le.Uint16(end[8:])) != n || n < 1 || n == 1 && generation == 0 || n > MaxMembers+1:
		return nil, damaged("it has %d members", n)
	case directory+length != size-endLen || length > MaxIndex:
		return nil, damaged("its directory is not at its end")
	case directory < from: // the manifest is about twice as long as the directory
		return nil, &ShortError{max(directory-2*length-4096, 0)}
	}
	x := &Index{ID: id, Generation: generation}
	text, err := x.directory(tail[directory-from:int64(len(tail))-endLen], n, directory)
	if err != nil {
		return nil, err
	}
	head := text.Offset - int64(localLen+len(text.Name)+timeLen(text))
	switch {
	case text.Size+length > MaxIndex:
		return nil, damaged("its manifest has %d bytes", text.Size)
	case head < from:
		return nil, &ShortError{head}
	}
	content := tail[text.Offset-from : directory-from]
	if crc32.ChecksumIEEE(content) != text.Sum.CRC32 {
		return nil, damaged("the manifest is not as it was written")
	}
	return x, x.decode(content)
}

// timeLen is the length of the extended timestamp of a member of the directory, which is
// kept in its mode until the manifest is read.
func timeLen(m *Member) int { return int(m.Mode) }

// directory reads the n entries of the directory, which begins at offset end of the file,
// and returns the last, the manifest.
func (x *Index) directory(b []byte, n int, end int64) (*Member, error) {
	seen, at := map[string]bool{}, int64(0)
	for range n {
		m, rest, err := entry(b)
		if err != nil {
			return nil, err
		}
		if at += int64(localLen+len(m.Name)) + int64(m.Mode); at != m.Offset || seen[m.Name] {
			return nil, damaged("its members do not lie one behind the other")
		}
		seen[m.Name] = true
		at += m.Size
		x.Members, b = append(x.Members, m), rest
	}
	last := x.Members[n-1]
	x.Members = x.Members[:n-1]
	if len(b) != 0 || at != end || last.Name != ManifestName {
		return nil, damaged("its last member is %q", last.Name)
	}
	for i := range x.Members {
		if !CanHold(x.Members[i].Name) {
			return nil, damaged("member %d has a name that no member can have", i)
		}
		x.Members[i].Mode = 0
	}
	return &last, nil
}

// entry reads one entry of the directory. The member's mode is the length of the extra
// field.
func entry(b []byte) (m Member, rest []byte, err error) {
	le := binary.LittleEndian
	if len(b) < centralLen || le.Uint32(b) != centralSig {
		return m, nil, damaged("its directory is cut off")
	}
	flags, method, stored, size := le.Uint16(b[8:]), le.Uint16(b[10:]), le.Uint32(b[20:]), le.Uint32(b[24:])
	name, extra, comment := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	if flags != utf8Flag || method != 0 || stored != size || comment != 0 || extra > 9 || len(b) < centralLen+name+extra {
		return m, nil, damaged("it has members that were not stored by us")
	}
	m = Member{Name: string(b[centralLen : centralLen+name]), Size: int64(size), Mode: uint32(extra)}
	m.Sum.CRC32 = le.Uint32(b[16:])
	m.Offset = int64(le.Uint32(b[42:])) + int64(localLen+name+extra)
	return m, b[centralLen+name+extra:], nil
}
