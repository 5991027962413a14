package webdav

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// attr is what our one dead property holds: {https://meshmount.github.io/ns/1}attr.
// Its value is text, fields separated by blanks, in any order after the first:
//
//	1                        the version of this form
//	m=644                    permission bits, octal
//	t=1500000000.123456789   mtime, seconds and nanoseconds since 1970
//	e=TAG s=13               entity tag and size of the content that the mtime is of
//	l=TARGET                 the file is a symbolic link to TARGET
//
// TAG and TARGET are percent-encoded. The mtime counts only while tag and size are
// those of the file, so that it is void once somebody else has changed the content.
// The link counts only while the size is that of TARGET, which the file holds as its
// content. Unknown fields are ignored.
type attr struct {
	mode    uint32
	hasMode bool
	mtime   time.Time // zero: none
	tag     string
	size    int64
	link    string // "": no link
}

const (
	attrForm  = "1"
	maxAttr   = 16 << 10
	maxTarget = 4095 // PATH_MAX without its NUL
)

var errAttr = errors.New("not a value of our attribute property")

// encode writes a in the form above; "" if there is nothing to keep.
func (a attr) encode() string {
	if !a.hasMode && a.mtime.IsZero() && a.link == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(attrForm)
	if a.hasMode {
		b.WriteString(" m=" + strconv.FormatUint(uint64(a.mode&0o7777), 8))
	}
	if !a.mtime.IsZero() {
		b.WriteString(" t=" + formatTime(a.mtime) + " s=" + strconv.FormatInt(a.size, 10))
		if a.tag != "" {
			b.WriteString(" e=" + escapeField(a.tag))
		}
	}
	if a.link != "" {
		b.WriteString(" l=" + escapeField(a.link))
	}
	return b.String()
}

// escapeField escapes so that nothing is left that XML would escape: OpenCloud escapes
// the values of properties once too often.
func escapeField(s string) string { return strings.ReplaceAll(url.PathEscape(s), "&", "%26") }

// formatTime writes the two parts of a Unix time. The nanoseconds count up also
// before 1970, where the seconds are negative.
func formatTime(t time.Time) string {
	nanos := strconv.Itoa(t.Nanosecond())
	return strconv.FormatInt(t.Unix(), 10) + "." + strings.Repeat("0", 9-len(nanos)) + nanos
}

func parseTime(s string) (time.Time, bool) {
	whole, nanos, ok := strings.Cut(s, ".")
	if !ok || len(nanos) != 9 {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds < -1<<40 || seconds > 1<<40 {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(nanos, 10, 32)
	if err != nil {
		return time.Time{}, false
	}
	t := time.Unix(seconds, int64(n))
	return t, !t.IsZero()
}

// parseAttr reads a value. Anything that is not of the form is an error: then the
// property is treated as missing.
func parseAttr(s string) (attr, error) {
	if len(s) > maxAttr {
		return attr{}, errAttr
	}
	fields := strings.Fields(s)
	if len(fields) == 0 || fields[0] != attrForm {
		return attr{}, errAttr
	}
	var a attr
	for _, f := range fields[1:] {
		key, value, ok := strings.Cut(f, "=")
		if !ok || !a.field(key, value) {
			return attr{}, errAttr
		}
	}
	return a, nil
}

// field reads one field into a.
func (a *attr) field(key, value string) bool {
	switch key {
	case "m":
		mode, err := strconv.ParseUint(value, 8, 16)
		a.mode, a.hasMode = uint32(mode), true
		return err == nil && mode <= 0o7777
	case "t":
		t, ok := parseTime(value)
		a.mtime = t
		return ok
	case "s":
		size, err := strconv.ParseInt(value, 10, 64)
		a.size = size
		return err == nil && size >= 0
	case "e":
		tag, err := url.PathUnescape(value)
		a.tag = tag
		return err == nil && validTag(tag)
	case "l":
		link, err := url.PathUnescape(value)
		a.link = link
		return err == nil && link != "" && len(link) <= maxTarget && strings.IndexByte(link, 0) < 0
	}
	return true
}
