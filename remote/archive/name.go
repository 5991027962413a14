package archive

import (
	"cmp"
	"crypto/rand"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ID names an archive. It is random: nothing depends on the time in it but which of two files
// of one name and one age comes first.
type ID string

// Parts of the names of hidden files.
const (
	prefix    = ".meshmount-"
	zipSuffix = ".zip"
	tombEnd   = ".gone"
	stamp     = "20060102T150405.000000Z"
	luckLen   = 8
)

// ManifestName is the name of the member that holds the manifest.
const ManifestName = ".meshmount.json"

// maxDigits is the number of digits of a number in a name.
const maxDigits = 5

// NewID returns an id for an archive made at that time.
func NewID(at time.Time) ID {
	return ID(at.UTC().Format(stamp) + "-" + strings.ToLower(rand.Text()[:luckLen]))
}

// stampOf returns the time in an id, "" if it is none.
func stampOf(id ID) string {
	text, _, _ := strings.Cut(string(id), "-")
	return text
}

// Luck returns the random letters of the id.
func (id ID) Luck() string {
	_, luck, _ := strings.Cut(string(id), "-")
	return luck
}

// Time returns when the archive was made, by the clock of who made it.
func (id ID) Time() time.Time {
	at, _ := time.Parse(stamp, stampOf(id)) // an ID was checked when it was made
	return at
}

// parseID returns the id that text is.
func parseID(text string) (ID, bool) {
	at, luck, ok := strings.Cut(text, "-")
	if !ok || len(luck) != luckLen {
		return "", false
	}
	if when, err := time.Parse(stamp, at); err != nil || when.Format(stamp) != at {
		return "", false
	}
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return ID(text), !strings.ContainsFunc(luck, odd)
}

// FileName returns the name of the file of a generation of the archive, from 0.
func (id ID) FileName(generation int) string {
	return UID{id, generation}.named(zipSuffix)
}

// ParseFileName returns of which archive and generation the file of that name is; false if it
// is no such name.
func ParseFileName(name string) (id ID, generation int, ok bool) {
	at, ok := parse(name, zipSuffix)
	return at.Archive, at.Number, ok
}

// UID names a member for good: by its archive and the number that it has in all generations,
// from 0.
type UID struct {
	Archive ID
	Number  int
}

// Compare orders members.
func (u UID) Compare(v UID) int {
	return cmp.Or(cmp.Compare(u.Archive, v.Archive), cmp.Compare(u.Number, v.Number))
}

// String returns "ID.NUMBER".
func (u UID) String() string { return string(u.Archive) + "." + strconv.Itoa(u.Number) }

// parseUID returns what String has written.
func parseUID(text string) (UID, bool) {
	at := strings.LastIndexByte(text, '.')
	if at < 0 {
		return UID{}, false
	}
	digits := text[at+1:]
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || len(digits) > maxDigits || strconv.Itoa(n) != digits {
		return UID{}, false
	}
	id, ok := parseID(text[:at])
	return UID{id, n}, ok
}

// named returns the name of a hidden file.
func (u UID) named(suffix string) string { return prefix + u.String() + suffix }

// parse returns what named has written.
func parse(name, suffix string) (UID, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return UID{}, false
	}
	if rest, ok = strings.CutSuffix(rest, suffix); !ok {
		return UID{}, false
	}
	return parseUID(rest)
}

// Tombstone returns the name of the file that declares the member dead.
func (u UID) Tombstone() string { return u.named(tombEnd) }

// ParseTombstone returns the member that a file of that name declares dead; false if it is
// no such name.
func ParseTombstone(name string) (UID, bool) { return parse(name, tombEnd) }

// Hidden tells whether a name is one of an archive or a tombstone.
func Hidden(name string) bool {
	if _, _, ok := ParseFileName(name); ok {
		return true
	}
	_, ok := ParseTombstone(name)
	return ok
}

// maxName is the longest name of a member in bytes: no file system takes longer ones.
const maxName = 255

// CanHold tells whether a file of that name can be a member: one component that every tool
// unpacks under this very name.
func CanHold(name string) bool {
	if name == "" || name == "." || name == ".." || name == ManifestName || len(name) > maxName {
		return false
	}
	if !utf8.ValidString(name) || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, unicode.IsControl) {
		return false
	}
	return !Hidden(name)
}
