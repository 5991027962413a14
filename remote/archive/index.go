package archive

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of an archive. One that is beyond is not taken for one of ours.
const (
	MaxMembers = 1 << 13 // members, without the manifest
	MaxSize    = 1 << 30 // bytes of the file
	MaxIndex   = 4 << 20 // bytes of directory and manifest
)

// Member is a file in an archive.
type Member struct {
	Name  string
	Size  int64 // bytes
	MTime time.Time
	// Mode holds permission bits (07777), and is meaningful only if ModeKnown.
	Mode      uint32
	ModeKnown bool
	Sum       Sum
	// Offset is where the member's bytes begin in the archive.
	Offset int64
	// Number is the member's own in all generations of the archive.
	Number int
	// From is the server's version of the plain file that the member was made from, if it was:
	// where that is still there, the member is not shown.
	From string
}

// Sum is what is known of a content's bytes.
type Sum struct {
	SHA256 string // lower-case hex
	CRC32  uint32 // IEEE
}

const versionPrefix = "kept:"

// Version returns the version of the member as a remote file: it depends on content and
// time only, so that it stays when the member is carried to another archive.
func (m *Member) Version() string {
	return versionPrefix + m.Sum.SHA256 + ":" + strconv.FormatInt(m.MTime.UnixNano(), 36)
}

// IsVersion tells whether a version is one of a member.
func IsVersion(version string) bool { return strings.HasPrefix(version, versionPrefix) }

// VersionTime returns the time that is part of a member's version; false if it is none.
func VersionTime(version string) (time.Time, bool) {
	at := strings.LastIndexByte(version, ':')
	n, err := strconv.ParseInt(version[at+1:], 36, 64)
	return time.Unix(0, n), IsVersion(version) && err == nil
}

// Digest returns the SHA-256 that is part of a member's version, in hex; "" if it is none.
func Digest(version string) string {
	rest, ok := strings.CutPrefix(version, versionPrefix)
	if !ok {
		return ""
	}
	digest, _, _ := strings.Cut(rest, ":")
	return digest
}

// Index is what one generation of an archive holds. Without members it is a grave: it says
// that all are dead.
type Index struct {
	ID         ID
	Generation int
	// Born is when the server had got generation 0, by its clock. Of generation 0 itself it is
	// zero: the time of its file says it.
	Born    time.Time
	Members []Member // by their numbers
}

// manifest is the JSON in an archive.
type manifest struct {
	Format     int            `json:"format"`
	ID         string         `json:"id"`
	Generation int            `json:"generation"`
	Born       time.Time      `json:"born,omitzero"`
	Members    []manifestFile `json:"members"`
}

type manifestFile struct {
	Name   string    `json:"name"`
	Number int       `json:"number"`
	Size   int64     `json:"size"`
	MTime  time.Time `json:"mtime"`
	Mode   string    `json:"mode,omitempty"` // octal
	SHA256 string    `json:"sha256"`
	From   string    `json:"from,omitempty"`
}

const format = 2

// encode returns the manifest.
func (x *Index) encode() ([]byte, error) {
	m := manifest{Format: format, ID: string(x.ID), Generation: x.Generation, Born: x.Born.UTC(), Members: make([]manifestFile, len(x.Members))}
	for i, f := range x.Members {
		one := manifestFile{Name: f.Name, Number: f.Number, Size: f.Size, MTime: f.MTime.UTC(), SHA256: f.Sum.SHA256, From: f.From}
		if f.ModeKnown {
			one.Mode = fmt.Sprintf("%04o", f.Mode)
		}
		m.Members[i] = one
	}
	return json.Marshal(m)
}

// decode takes the manifest in, for an index whose members are known from the directory.
func (x *Index) decode(text []byte) error {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return damaged("the manifest is no JSON: %w", err)
	}
	if m.Format != format || m.ID != string(x.ID) || m.Generation != x.Generation || len(m.Members) != len(x.Members) {
		return damaged("the manifest is of format %d, of generation %d of archive %q and of %d members", m.Format, m.Generation, m.ID, len(m.Members))
	}
	x.Born = m.Born
	for i := range m.Members {
		if err := x.take(i, &m.Members[i]); err != nil {
			return err
		}
	}
	return nil
}

// take adds what the manifest says of member i.
func (x *Index) take(i int, f *manifestFile) error {
	m := &x.Members[i]
	if f.Name != m.Name || f.Size != m.Size || len(f.SHA256) != 64 || strings.Trim(f.SHA256, "0123456789abcdef") != "" {
		return damaged("manifest and directory differ in member %d", i)
	}
	if f.Number < 0 || f.Number >= MaxMembers || i > 0 && f.Number <= x.Members[i-1].Number || x.Generation == 0 && f.Number != i {
		return damaged("member %d has the number %d", i, f.Number)
	}
	m.MTime, m.Sum.SHA256, m.Number, m.From = f.MTime, f.SHA256, f.Number, f.From
	if f.Mode != "" {
		mode, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil || mode > 0o7777 {
			return damaged("member %d has the mode %q", i, f.Mode)
		}
		m.Mode, m.ModeKnown = uint32(mode), true
	}
	return nil
}
