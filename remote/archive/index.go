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
	MaxMembers = 1 << 14 // members, without the manifest
	MaxSize    = 1 << 30 // bytes of the file
	MaxIndex   = 32 << 20
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
	// Origin names the member for good.
	Origin UID
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

// Index is what an archive holds.
type Index struct {
	ID         ID
	Supersedes []ID // the archives whose living members are all in this one
	Members    []Member
}

// manifest is the JSON in an archive.
type manifest struct {
	Format     int            `json:"format"`
	ID         string         `json:"id"`
	Supersedes []string       `json:"supersedes,omitempty"`
	Members    []manifestFile `json:"members"`
}

type manifestFile struct {
	Name   string    `json:"name"`
	Size   int64     `json:"size"`
	MTime  time.Time `json:"mtime"`
	Mode   string    `json:"mode,omitempty"` // octal
	SHA256 string    `json:"sha256"`
	Origin string    `json:"origin,omitempty"` // of a member that was first elsewhere
}

const format = 1

// encode returns the manifest.
func (x *Index) encode() ([]byte, error) {
	m := manifest{Format: format, ID: string(x.ID), Members: make([]manifestFile, len(x.Members))}
	for _, id := range x.Supersedes {
		m.Supersedes = append(m.Supersedes, string(id))
	}
	for i, f := range x.Members {
		one := manifestFile{Name: f.Name, Size: f.Size, MTime: f.MTime.UTC(), SHA256: f.Sum.SHA256}
		if f.ModeKnown {
			one.Mode = fmt.Sprintf("%04o", f.Mode)
		}
		if f.Origin != (UID{x.ID, i}) {
			one.Origin = f.Origin.String()
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
	if m.Format != format || m.ID != string(x.ID) || len(m.Members) != len(x.Members) {
		return damaged("the manifest is of format %d, of archive %q and of %d members", m.Format, m.ID, len(m.Members))
	}
	for _, text := range m.Supersedes {
		id, ok := parseID(text)
		if !ok || id >= x.ID {
			return damaged("it says that it supersedes %q", text)
		}
		x.Supersedes = append(x.Supersedes, id)
	}
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
	m.MTime, m.Sum.SHA256, m.Origin = f.MTime, f.SHA256, UID{x.ID, i}
	if f.Mode != "" {
		mode, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil || mode > 0o7777 {
			return damaged("member %d has the mode %q", i, f.Mode)
		}
		m.Mode, m.ModeKnown = uint32(mode), true
	}
	if f.Origin != "" {
		origin, ok := parseUID(f.Origin)
		if !ok || origin.Archive >= x.ID {
			return damaged("member %d has the origin %q", i, f.Origin)
		}
		m.Origin = origin
	}
	return nil
}
