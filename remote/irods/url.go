package irods

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
)

// URLScheme begins the addresses of collections.
const URLScheme = "irods"

// URL is the address of a collection. Fields that the text left out are empty.
type URL struct {
	Host string // name or address in lower case, without brackets
	Port int    // DefaultPort unless the text says another
	User string
	// Zone is the user's own, if the text names it.
	Zone string
	Root string // absolute path of the collection in its clean form
}

// ParseURL reads the address of a collection:
//
//	irods://USER@HOST[:PORT]/ZONE/COLLECTION
//	irods://USER%23HOMEZONE@HOST[:PORT]/ZONE/COLLECTION
//	irods:///ZONE/COLLECTION
//	irods:
//
// The second form is for users of another zone than the path's (%23 is the "#" of
// their full name). In the third and fourth form everything that is missing stands
// in the environment of iCommands, see ReadEnvironment. Names may hold any character
// as %XX; slashes at the end mean nothing.
//
// A password in the URL is refused: command lines are seen by everybody on the
// machine. Errors are one line that names the remedy, and never hold the password.
func ParseURL(text string) (URL, error) {
	in, err := url.Parse(text)
	if err != nil {
		return URL{}, unreadable(err)
	}
	if err := checkForm(in, text); err != nil {
		return URL{}, err
	}
	u := URL{Host: strings.ToLower(in.Hostname())}
	if u.User, u.Zone, err = userOf(in); err != nil {
		return URL{}, err
	}
	if u.Port, err = portOf(in); err != nil {
		return URL{}, err
	}
	if u.Root, err = rootOf(in); err != nil {
		return URL{}, err
	}
	switch {
	case u.Host == "" && (u.User != "" || in.Host != ""):
		return URL{}, errors.New("the URL names no host; write irods://user@host/zone/collection")
	case u.Host == "":
		u.Port = 0
	}
	return u, nil
}

// String returns the address in the form that ParseURL reads.
func (u URL) String() string {
	out := url.URL{Scheme: URLScheme, Path: u.Root}
	if u.User != "" {
		out.User = url.User(FullUser(u.User, u.Zone))
	}
	if u.Host != "" {
		out.Host = net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	}
	return out.String()
}

// ZoneOf returns the zone that an absolute path lies in.
func ZoneOf(path string) string {
	zone, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return zone
}

// FullUser returns the full name of a user, "alice#tempZone", or the bare one if zone is
// empty.
func FullUser(name, zone string) string {
	if zone == "" {
		return name
	}
	return name + "#" + zone
}

// SplitUser takes apart the full name of a user, "alice#tempZone". The zone is empty
// if the name is not a full one.
func SplitUser(text string) (name, zone string, err error) {
	name, zone, full := strings.Cut(text, "#")
	switch {
	case name == "" || full && zone == "":
		return "", "", fmt.Errorf("%q is no user; write name or name#zone", text)
	case strings.ContainsAny(text, ":/") || strings.Contains(zone, "#") || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return "", "", errors.New("the user name holds a character that no user has (colon, slash, control character); correct it")
	}
	return name, zone, nil
}

// unreadable says what net/url found, without its text: that repeats the input, which
// may hold a password.
func unreadable(err error) error {
	why := "it is not of the form irods://user@host/zone/collection"
	if _, ok := errors.AsType[url.EscapeError](err); ok {
		why = "it holds a % that is not followed by two hex digits"
	}
	if _, ok := errors.AsType[url.InvalidHostError](err); ok {
		why = "the host name holds a character that is not allowed"
	}
	return errors.New("cannot read the URL: " + why)
}

// checkForm refuses what is not an address of a collection at all.
func checkForm(in *url.URL, text string) error {
	switch {
	case in.Scheme != URLScheme:
		return fmt.Errorf("the scheme %q is not supported; use irods://", in.Scheme)
	case in.Opaque != "":
		return errors.New("there are no slashes after irods: in the URL; write irods://user@host/zone/collection")
	case strings.ContainsAny(text, "?#"):
		return errors.New("the URL has a query or fragment (? or #); take it out, or write %3F and %23")
	}
	return checkHost(in.Hostname())
}

// checkHost takes addresses and names in ASCII.
func checkHost(host string) error {
	if strings.Contains(host, ":") {
		if ip, err := netip.ParseAddr(host); err != nil || ip.Zone() != "" {
			return errors.New("the host in brackets is not an IPv6 address; correct it")
		}
		return nil
	}
	allowed := func(r rune) bool {
		return r == '-' || r == '.' || r == '_' || r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r))
	}
	if strings.ContainsFunc(host, func(r rune) bool { return !allowed(r) }) {
		return errors.New("the host name holds a character that is not allowed; write international names in their xn-- form")
	}
	return nil
}

func userOf(in *url.URL) (name, zone string, err error) {
	if in.User == nil {
		return "", "", nil
	}
	if _, has := in.User.Password(); has {
		return "", "", errors.New("the URL holds a password; take it out and give it by a file, a command, a prompt or the environment")
	}
	if strings.Contains(in.User.Username(), ":") {
		return "", "", errors.New("the user name in the URL holds a colon; correct it")
	}
	if name, zone, err = SplitUser(in.User.Username()); err != nil {
		return "", "", fmt.Errorf("in the URL: %w", err)
	}
	return name, zone, nil
}

func portOf(in *url.URL) (int, error) {
	text := in.Port()
	if text == "" {
		if strings.HasSuffix(in.Host, ":") {
			return 0, errors.New("the URL has a colon but no port after the host; give a number or take the colon away")
		}
		return DefaultPort, nil
	}
	return parsePort(text)
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.20q is no port; give a number from 1 to 65535", text)
	}
	return int(n), nil
}

// rootOf returns the path of the collection, "" if there is none.
func rootOf(in *url.URL) (string, error) {
	if strings.Contains(strings.ToUpper(in.EscapedPath()), "%2F") {
		return "", errors.New("the path of the URL holds %2F; no name can hold a slash")
	}
	root := strings.TrimRight(in.Path, "/")
	if root == "" {
		return "", nil
	}
	if err := checkRoot(root); err != nil {
		return "", fmt.Errorf("the path of the URL %w", err)
	}
	return path.Clean(root), nil
}

// checkRoot refuses what cannot be the path of a collection. Doubled slashes are fine.
func checkRoot(root string) error {
	switch {
	case !strings.HasPrefix(root, "/"):
		return errors.New("does not begin with a slash; write /zone/collection")
	case len(root) > remote.MaxPath:
		return errors.New("is too long")
	case strings.IndexByte(root, 0) >= 0:
		return errors.New("holds a NUL byte; take it out")
	case !utf8.ValidString(root):
		return errors.New("is not UTF-8; zones take nothing else")
	}
	for name := range strings.SplitSeq(root, "/") {
		if name == "." || name == ".." {
			return errors.New("holds . or ..; write it out")
		}
	}
	return nil
}
