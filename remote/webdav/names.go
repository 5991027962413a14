package webdav

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
)

// Temporary names, in the directory of the file they are for. They are not listed.
const (
	tempPrefix = ".meshmount-"
	tempSuffix = ".tmp"
)

// abandoned is the age from which a temporary name is taken for the leftover of a
// program that died.
const abandoned = 24 * time.Hour

// tempName returns a new temporary name, with a tag if that is not empty.
func tempName(tag string) string { return tempPrefix + tagged(tag, rand.Text()) + tempSuffix }

func isTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix)
}

// maxLocalName is the longest name that a Linux file system takes (NAME_MAX).
const maxLocalName = 255

// checkName refuses a path whose last name the server would not keep as it is.
// Names above it exist already or not at all.
func (c *call) checkName(path string) error {
	_, name := remote.Split(path)
	t := &c.b.traits
	if len(name) > t.maxName && t.maxName > 0 {
		return c.failf(remote.NameTooLong, "the server takes names of at most %d bytes", t.maxName)
	}
	if why := t.unusable(name); why != "" {
		return c.fail(remote.Invalid, errors.New(why))
	}
	return nil
}

// unusable tells why a name cannot be used on this server, "" if it can.
func (t *traits) unusable(name string) string {
	if name == "" {
		return ""
	}
	lower := strings.ToLower(name)
	base, _, _ := strings.Cut(lower, ".")
	switch {
	case isTemp(name):
		return "this name is reserved for unfinished uploads"
	case !t.bytes && !utf8.ValidString(name):
		return "the server takes only names in UTF-8"
	case !t.control && hasControl(name):
		return "the server does not keep control characters in names"
	case strings.ContainsAny(name, t.refused) && t.refused != "":
		return fmt.Sprintf("the server does not keep any of %q in names", t.refused)
	case slices.Contains(t.names, lower), slices.Contains(t.basenames, base):
		return "the server forbids this name"
	case slices.ContainsFunc(t.endings, func(end string) bool { return strings.HasSuffix(lower, end) }):
		return "the server forbids names with this ending"
	case slices.ContainsFunc(t.starts, func(start string) bool { return strings.HasPrefix(name, start) }):
		return "the server hides names with this beginning"
	case t.nfc && !isNFC(name):
		return "the server stores names in Unicode's composed form and would change this one"
	}
	return ""
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// hrefs turns the addresses in a multistatus into names.
type hrefs struct {
	host string // of the request, with port
	dir  string // path of the collection that was asked for, unescaped, no trailing slash
	t    *traits
}

func (b *Backend) hrefs(path string) hrefs {
	return hrefs{host: b.opts.URL.Host, dir: strings.TrimSuffix(b.dir+path, "/"), t: &b.traits}
}

// Reasons to leave an entry out.
var (
	errHrefForm    = errors.New("address cannot be read")
	errHrefHost    = errors.New("address on another host")
	errHrefOutside = errors.New("address outside of the directory")
	errNameDots    = errors.New("name is . or .. by itself")
	errNameControl = errors.New("name with NUL or a control character")
	errNameLong    = errors.New("name longer than 255 bytes")
	errNameUTF8    = errors.New("name not in UTF-8")
)

// resolve returns the name of the child that href stands for, "" for the collection
// itself. Percent-encoding is undone exactly once, and compared is only what comes
// out: servers choose other encodings than we do.
func (h *hrefs) resolve(href string) (string, error) {
	path, err := h.local(href)
	if err != nil {
		return "", err
	}
	path, err = decodePath(path)
	if err != nil {
		return "", err
	}
	if path == h.dir {
		return "", nil
	}
	name, ok := strings.CutPrefix(path, h.dir+"/")
	if !ok || strings.Contains(name, "/") {
		return "", errHrefOutside
	}
	return name, h.checkName(name)
}

// checkName refuses names that no file can have, or none on this server.
func (h *hrefs) checkName(name string) error {
	switch {
	case len(name) > maxLocalName:
		return errNameLong
	case strings.IndexByte(name, 0) >= 0, !h.t.control && hasControl(name):
		return errNameControl
	case !h.t.bytes && !utf8.ValidString(name):
		return errNameUTF8
	}
	return nil
}

// local takes scheme and host off an absolute address, if they are the server's.
func (h *hrefs) local(href string) (string, error) {
	if strings.HasPrefix(href, "/") && !strings.HasPrefix(href, "//") {
		return href, nil
	}
	scheme, rest, ok := strings.Cut(href, "://")
	if strings.HasPrefix(href, "//") {
		// Either a host follows or the server writes its paths with two slashes.
		return href, nil
	}
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", errHrefForm
	}
	host, path, _ := strings.Cut(rest, "/")
	if !h.sameHost(host) {
		return "", errHrefHost
	}
	return "/" + path, nil
}

// sameHost compares hosts. A port that is not written is taken as right: behind a
// proxy that ends TLS, servers write http and no port.
func (h *hrefs) sameHost(host string) bool {
	theirs, ours := url.URL{Host: host}, url.URL{Host: h.host}
	return strings.EqualFold(theirs.Hostname(), ours.Hostname()) &&
		(theirs.Port() == "" || ours.Port() == "" || theirs.Port() == ours.Port())
}

// decodePath undoes the percent-encoding of a path, once, and drops doubled and
// trailing slashes. An encoded slash becomes part of a name and is refused there.
func decodePath(escaped string) (string, error) {
	if strings.ContainsAny(escaped, "?#") {
		return "", errHrefForm
	}
	var b strings.Builder
	for name := range strings.SplitSeq(escaped, "/") {
		if name == "" {
			continue
		}
		text, err := url.PathUnescape(name)
		switch {
		case err != nil:
			return "", errHrefForm
		case text == "." || text == "..":
			return "", errNameDots
		case strings.Contains(text, "/"):
			return "", errHrefOutside
		}
		b.WriteString("/" + text)
	}
	return b.String(), nil
}
