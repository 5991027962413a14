package webdav

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// found is what a PROPFIND showed of one resource.
type found struct {
	remote.Entry
	tag  string // entity tag without quotes and weak mark, "" if there is none
	weak bool
	attr attr // our property as it stands, valid or not
	// native is the mtime that the server itself shows, now its clock at the answer.
	native, now time.Time
	quota       remote.Usage // if it was asked for
}

// racyWindow is how far the server's clock must be past the mtime until an equal tag
// proves equal bytes: time stamps of one second, and a little for clocks in step.
const racyWindow = 2 * time.Second

// clientTime is how far mtime and time of upload may be apart before the mtime counts
// as set by the client.
const clientTime = 2 * time.Second

// Reasons not to show an entry.
var (
	errNoProps  = errors.New("no properties")
	errNoLength = errors.New("file without a length")
	errOverlong = errors.New("a value of more than 64 KiB")
)

// view makes an entry of what a server says. now is the time on its clock.
func (b *Backend) view(path string, r *response, now time.Time) (found, error) {
	switch {
	case r.overlong:
		return found{}, errOverlong
	case !r.found:
		return found{}, errNoProps
	}
	p := &r.props
	f := found{
		Entry: remote.Entry{Path: path, Type: remote.File}, now: now,
		quota: remote.Usage{Used: quotaOf(p.quotaUsed), Available: quotaOf(p.quotaFree)},
	}
	f.Access = b.access(p.perms)
	if b.traits.stableIDs {
		f.ID = p.id
	}
	if p.modified != "" {
		if t, err := parseDate(p.modified); err == nil {
			f.native, f.MTime = t, t
		}
	}
	f.tag, f.weak = cutTag(p.etag)
	if p.collection || p.iscollection == "1" {
		f.Type = remote.Dir
		b.dirVersion(&f, now)
	} else {
		size, err := strconv.ParseInt(p.length, 10, 64)
		if err != nil || size < 0 {
			return found{}, errNoLength
		}
		f.Size = size
		b.fileVersion(&f, p, now)
	}
	f.applyAttr(p.attr)
	return f, nil
}

// applyAttr takes up our property, as far as it is still valid.
func (f *found) applyAttr(text string) {
	a, err := parseAttr(text)
	if err != nil {
		return
	}
	f.attr = a
	if a.hasMode {
		f.Mode, f.ModeKnown = a.mode, true
	}
	if !a.mtime.IsZero() && a.tag == f.stamp() && a.size == f.Size {
		f.MTime = a.mtime
	}
	if a.link != "" && f.Type == remote.File && f.Size == int64(len(a.link)) {
		f.Type, f.Target = remote.Symlink, a.link
	}
}

// stamp is what ties a stored mtime to a content.
func (f *found) stamp() string {
	if f.tag != "" {
		return f.tag
	}
	return "t" + strconv.FormatInt(f.native.Unix(), 10)
}

// dirVersion sets the version of a directory, where it is worth something.
func (b *Backend) dirVersion(f *found, now time.Time) {
	switch t := &b.traits; {
	case t.tags == tagsTrusted && f.tag != "":
		f.Version = f.tag
		// The family makes a new tag for each change; mod_dav takes the mtime.
		f.Provisional = !t.propagates && (f.weak || racy(f.native, now))
	case t.tags == tagsNone && !f.native.IsZero():
		f.Version = "m" + strconv.FormatInt(f.native.Unix(), 10)
		f.Provisional = racy(f.native, now)
	}
}

// fileVersion sets the version of a file; see the package documentation.
func (b *Backend) fileVersion(f *found, p *props, now time.Time) {
	t := &b.traits
	if f.tag == "" {
		if !f.native.IsZero() {
			f.Version = statVersion(f.native, f.Size)
			f.Provisional = racy(f.native, now)
		}
		return
	}
	f.Version = f.tag
	if t.checksums {
		f.Checksum = strongest(p.checksums)
		if sha1 := checksum(p.checksums, "sha1"); sha1 != "" {
			f.Version += versionSep + "sha1:" + sha1
			return
		}
	}
	if t.hashTags && isHash(f.tag) {
		b.sawHashTag.Store(true)
		return
	}
	last := f.native
	if t.uploadTime {
		if up := parseUnix(p.uploadTime); !up.IsZero() {
			if d := up.Sub(f.native); d > clientTime || d < -clientTime {
				f.Version += versionSep + "up:" + strconv.FormatInt(up.Unix(), 10)
				last = up
			} else if up.After(last) {
				last = up
			}
		}
	}
	f.Provisional = f.weak || racy(last, now)
}

// racy tells whether a second change could still get the time stamp of the first.
func racy(changed, now time.Time) bool {
	return changed.IsZero() || !now.After(changed.Add(racyWindow))
}

// versionSep stands between the parts of a Version. No tag holds a blank.
const versionSep = " "

// statVersion takes the place of a tag where there is none. It is no tag: it begins with
// versionSep.
func statVersion(mtime time.Time, size int64) string {
	return versionSep + "m" + strconv.FormatInt(mtime.Unix(), 10) + "-" + strconv.FormatInt(size, 10)
}

// tagOf returns the entity tag in a Version, "" if it is not made of one.
func (b *Backend) tagOf(version string) string {
	if b.traits.tags == tagsNone {
		return ""
	}
	tag, _, _ := strings.Cut(version, versionSep)
	return tag
}

// sumOf returns the SHA-1 in a Version, "" if there is none.
func sumOf(version string) string {
	_, more, _ := strings.Cut(version, versionSep)
	sum, _ := strings.CutPrefix(more, "sha1:")
	if sum == more {
		return ""
	}
	return sum
}

// sameVersion compares two versions of one path. A version that came without its
// second part (an upload whose time of upload was not known) is compared without.
func (b *Backend) sameVersion(a, c string) bool {
	tagA, moreA, _ := strings.Cut(a, versionSep)
	tagC, moreC, _ := strings.Cut(c, versionSep)
	return tagA == tagC && (moreA == moreC || b.traits.checksums && (moreA == "" || moreC == ""))
}

// cutTag takes quotes and weak mark off an entity tag. A tag of another form is none.
func cutTag(s string) (tag string, weak bool) {
	s = strings.TrimSpace(s)
	rest, weak := strings.CutPrefix(s, "W/")
	if len(rest) < 2 || rest[0] != '"' || rest[len(rest)-1] != '"' {
		return "", false
	}
	tag = rest[1 : len(rest)-1]
	if !validTag(tag) {
		return "", false
	}
	return tag, weak
}

// validTag holds the grammar of RFC 9110, 8.8.3, and a bound.
func validTag(tag string) bool {
	if tag == "" || len(tag) > 1024 {
		return false
	}
	for i := range len(tag) {
		if tag[i] <= ' ' || tag[i] == '"' || tag[i] == 0x7f {
			return false
		}
	}
	return true
}

// equalHex compares digests, whatever the case of their letters.
func equalHex(a, b string) bool { return strings.EqualFold(a, b) }

func isHash(tag string) bool {
	return len(tag) >= 32 && strings.Trim(tag, "0123456789abcdefABCDEF") == ""
}

// parseDate reads the dates that servers write: HTTP-date, and RFC 1123 with a
// numeric zone (the oCIS family in headers).
func parseDate(s string) (time.Time, error) {
	if t, err := http.ParseTime(s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC1123Z, s)
}

// parseUnix reads seconds since 1970; zero for nothing or 0, which Nextcloud shows
// for files that did not come by an upload.
func parseUnix(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

// checksum finds the digest of one algorithm in a value like "SHA1:ab MD5:cd".
func checksum(value, algorithm string) string {
	for field := range strings.FieldsSeq(value) {
		name, digest, ok := strings.Cut(field, ":")
		if ok && strings.EqualFold(name, algorithm) && isHex(digest) {
			return strings.ToLower(digest)
		}
	}
	return ""
}

func isHex(s string) bool {
	return s != "" && len(s) <= 128 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// strongest returns the best checksum of the value.
func strongest(value string) remote.Checksum {
	for _, algorithm := range []string{"sha256", "sha1", "md5", "adler32"} {
		if digest := checksum(value, algorithm); digest != "" {
			return remote.Checksum{Algorithm: algorithm, Hex: digest}
		}
	}
	return remote.Checksum{}
}

// access reads oc:permissions. S (shared), R (may be shared on) and M (mounted) are
// of no interest here. G (readable) is only written by Nextcloud; elsewhere what is
// shown can be read.
func (b *Backend) access(perms string) remote.Access {
	if perms == "" {
		return 0
	}
	a := remote.AccessKnown
	if b.traits.name != Nextcloud {
		a |= remote.AccessRead
	}
	for letter, bit := range map[rune]remote.Access{
		'G': remote.AccessRead, 'W': remote.AccessWrite, 'C': remote.AccessCreate, 'K': remote.AccessMkdir,
		'D': remote.AccessDelete, 'N': remote.AccessRename, 'V': remote.AccessRename,
	} {
		if strings.ContainsRune(perms, letter) {
			a |= bit
		}
	}
	return a
}

// quotaOf reads a quota; what is negative or missing is unknown or unlimited.
func quotaOf(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// ifTag writes a tag for If-Match.
func ifTag(tag string) string { return `"` + tag + `"` }

// taggedList is the If header that asks for an entity tag at a URL.
func taggedList(target, tag string) string { return "<" + target + "> ([" + ifTag(tag) + "])" }
