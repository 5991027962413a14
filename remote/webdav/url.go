package webdav

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// schemes maps what a branch's URL may begin with to the protocol beneath.
var schemes = map[string]string{"davs": "https", "https": "https", "dav": "http", "http": "http"}

// ParseURL reads the address of a branch: davs://[user@]host[:port]/path, or dav://
// without TLS; https:// and http:// mean the same two. It returns the http(s) URL
// of the root collection, without user and without trailing slash, and the user.
//
// A password in the URL is refused: command lines are seen by everybody on the
// machine. Errors are one line that names the remedy, and never hold the password.
func ParseURL(s string) (u *url.URL, user string, err error) {
	parsed, err := url.Parse(s)
	if err != nil {
		// The text of url.Parse repeats the input, which may hold a password.
		return nil, "", fmt.Errorf("cannot read the URL of a branch: %w; write davs://user@host/path", innermost(err))
	}
	if user, err = parseUser(parsed); err != nil {
		return nil, "", err
	}
	u, err = parseRoot(parsed)
	if err != nil {
		return nil, "", err
	}
	return u, user, nil
}

// innermost drops what url.Parse wraps around its cause.
func innermost(err error) error {
	var e *url.Error
	if !errors.As(err, &e) {
		return err
	}
	var escape url.EscapeError
	var host url.InvalidHostError
	switch {
	case errors.As(e.Err, &escape):
		return errors.New("it holds a % that is not followed by two hex digits")
	case errors.As(e.Err, &host):
		return errors.New("the host name holds a character that is not allowed")
	}
	return errors.New("it is not of the form scheme://host/path")
}

func parseUser(u *url.URL) (string, error) {
	if u.User == nil {
		return "", nil
	}
	if _, has := u.User.Password(); has {
		return "", errors.New("the URL holds a password; take it out and give it by a file, " +
			"a command, a prompt or the environment")
	}
	name := u.User.Username()
	if strings.ContainsAny(name, ":\x00\r\n") {
		return "", errors.New("the user name in the URL holds a colon or control character; correct it")
	}
	return name, nil
}

func parseRoot(in *url.URL) (*url.URL, error) {
	scheme, known := schemes[in.Scheme]
	switch {
	case in.Scheme == "":
		return nil, errors.New("the URL has no scheme; begin with davs:// (TLS) or dav:// (plain HTTP)")
	case !known:
		return nil, fmt.Errorf("the scheme %q is not supported; use davs:// or dav://", in.Scheme)
	case in.Opaque != "" || in.Hostname() == "":
		return nil, errors.New("the URL names no host; write davs://user@host/path")
	case in.RawQuery != "" || in.ForceQuery || in.Fragment != "":
		return nil, errors.New("the URL has a query or fragment (? or #); take it out, or write %3F and %23")
	case strings.ContainsRune(in.Path, 0):
		return nil, errors.New("the path of the URL holds a NUL byte; take it out")
	}
	if err := checkHost(in.Hostname()); err != nil {
		return nil, err
	}
	if err := checkPort(in.Port(), in.Host); err != nil {
		return nil, err
	}
	path, err := rootPath(in)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: scheme, Host: strings.ToLower(in.Host), Path: path}, nil
}

// checkHost takes addresses and names in ASCII.
func checkHost(host string) error {
	if strings.Contains(host, ":") {
		if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() != "" {
			return errors.New("the host in brackets is not an IPv6 address; correct it")
		}
		return nil
	}
	for i := range len(host) {
		switch c := host[i] | 0x20; {
		case c >= 'a' && c <= 'z', host[i] >= '0' && host[i] <= '9', host[i] == '-', host[i] == '.', host[i] == '_':
		default:
			return errors.New("the host name holds a character that is not allowed; write international names in their xn-- form")
		}
	}
	return nil
}

func checkPort(port, host string) error {
	if port == "" && strings.HasSuffix(host, ":") {
		return errors.New("the URL has a colon but no port after the host; give a number or take the colon away")
	}
	if port == "" {
		return nil
	}
	if _, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || port == "0" {
		return fmt.Errorf("%q is no port; give a number from 1 to 65535", port)
	}
	return nil
}

// rootPath returns the path of the root collection in its clean form, "" for "/".
func rootPath(u *url.URL) (string, error) {
	var b strings.Builder
	for name := range strings.SplitSeq(u.EscapedPath(), "/") {
		text, err := url.PathUnescape(name)
		if err != nil {
			return "", errors.New("the path of the URL holds a % that is not followed by two hex digits")
		}
		switch {
		case text == "":
			continue
		case text == "." || text == "..":
			return "", errors.New("the path of the URL holds . or ..; write it out")
		case strings.Contains(text, "/"):
			return "", errors.New("the path of the URL holds %2F; no name can hold a slash")
		}
		b.WriteString("/" + text)
	}
	if b.Len() > remote.MaxPath {
		return "", errors.New("the path of the URL is too long")
	}
	return b.String(), nil
}

// loopback tells whether host (without port) is this machine by its very name or
// address, so that nothing leaves it.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
