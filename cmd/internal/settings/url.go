package settings

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/meshmount/meshmount/remote/webdav"
)

var (
	errEmpty = errors.New("the value is empty")
	errPlain = errors.New("plain HTTP to another host is refused")
)

// shareSchemes are what the URL of a share may begin with.
var shareSchemes = []string{"davs", "dav", "https", "http"}

// parseURL checks a branch's URL and returns it in its clean form, davs://host/path,
// dav://host/path or irods://host:port/zone/path, and its user. Errors name the remedy and do not show the URL,
// which may hold what the user should not have written there.
func parseURL(address string) (clean, user string, err error) {
	if err := plainText(address); err != nil {
		return "", "", err
	}
	scheme, _, found := strings.Cut(address, "://")
	switch {
	case (&Branch{URL: address}).Kind() == Zone:
		return parseZoneURL(address)
	case found && !slices.Contains(shareSchemes, strings.ToLower(scheme)) && !strings.Contains(scheme, ":"):
		return "", "", fmt.Errorf("the scheme %q is not supported; use davs:// for a share, irods:// for a zone", scheme)
	}
	u, user, err := webdav.ParseURL(address)
	if err != nil {
		return "", "", err
	}
	if printable(user) != nil {
		return "", "", errors.New("the user name in the URL holds a control character; correct it")
	}
	u.Scheme = map[string]string{"https": "davs", "http": "dav"}[u.Scheme]
	return u.String(), user, nil
}

func plainText(address string) error {
	if printable(address) != nil || strings.ContainsFunc(address, unicode.IsSpace) {
		return errors.New("there are spaces, control characters or broken UTF-8 in the URL; write them as %XX")
	}
	return nil
}

// plainAllowed refuses unencrypted connections to other hosts unless the user chose
// them. It asks no name server.
func plainAllowed(b *Branch) error {
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme == "davs" || b.AllowPlainHTTP {
		return err
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback() {
		return nil
	}
	return errPlain
}

// AutoDialect is the choice of dialect that has it found out.
const AutoDialect = "auto"

func dialects() []string { return append([]string{AutoDialect}, webdav.Dialects()...) }
