package settings

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Path is a file name. It is absolute once it has been read: relative ones are
// taken from the configuration file's directory, or from the working directory for
// flags and variables; a leading "~/" is the home directory.
type Path string

// Octal is a number written in octal.
type Octal uint32

// UserID and GroupID are numbers that may be given by name.
type (
	UserID  uint32
	GroupID uint32
)

// ownID stands for the user or group of the process itself.
const ownID = "own"

// parse reads text as a value of o into the field that ptr points to. Relative
// paths start at dir.
func (o *Option) parse(ptr any, text, dir string) error {
	if len(o.Choices) > 0 && !slices.Contains(o.Choices, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(o.Choices, ", "))
	}
	if strings.IndexByte(text, 0) >= 0 {
		return errors.New("there is a NUL byte in the value")
	}
	var err error
	switch p := ptr.(type) {
	case *string:
		*p, err = text, printable(text)
	case *bool:
		*p, err = parseBool(text)
	case *int:
		*p, err = parseInt(text, o.Min)
	case *time.Duration:
		*p, err = ParseDuration(text)
	case *Size:
		*p, err = o.parseSize(text)
	case *Octal:
		*p, err = parseOctal(text)
	case *Path:
		*p, err = parsePath(text, dir)
	case *wire.Encryption:
		*p, err = parseEncryption(text)
	case *UserID:
		*p, err = parseUser(text)
	case *GroupID:
		*p, err = parseGroup(text)
	default:
		return fmt.Errorf("option %s has the unknown type %T", o.Name, ptr)
	}
	return err
}

// Type names the kind of value for manuals.
func (o *Option) Type() string {
	switch o.target(new(Settings), new(Branch)).(type) {
	case *bool:
		return "switch"
	case *int:
		return "number"
	case *time.Duration:
		return "duration"
	case *Size:
		return "size"
	case *Octal:
		return "octal"
	case *Path:
		return "file"
	}
	return "text"
}

// IsSwitch tells whether the option's flag may stand without a value.
func (o *Option) IsSwitch() bool { return o.Type() == "switch" }

// target returns the field that the option sets, nil for credentials.
func (o *Option) target(s *Settings, b *Branch) any {
	switch {
	case o.whole != nil:
		return o.whole(s)
	case o.branch != nil:
		return o.branch(b)
	}
	return nil
}

// printable refuses text that would garble a terminal, a header or a mount table.
func printable(text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("there are control characters or broken UTF-8 in the value")
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}

func parseInt(text string, least int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > math.MaxInt32 {
		return 0, fmt.Errorf("%q is not a whole number of at least %d", text, least)
	}
	return n, nil
}

// ParseDuration reads "1m30s", "250ms" or a bare number of seconds.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if secs, e := strconv.ParseUint(text, 10, 31); e == nil {
		d, err = time.Duration(secs)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90s, 5m or 1h30m", text)
	}
	return d, nil
}

func parseOctal(text string) (Octal, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is not an octal number from 0 to 777", text)
	}
	return Octal(n), nil
}

// parseEncryption reads "AES-256-CBC:32:8:16".
func parseEncryption(text string) (wire.Encryption, error) {
	parts := strings.Split(text, ":")
	bad := fmt.Errorf("%q is not of the form AES-256-CBC:32:8:16", text)
	if len(parts) != 4 || parts[0] == "" || printable(text) != nil {
		return wire.Encryption{}, bad
	}
	e := wire.Encryption{Algorithm: parts[0]}
	for i, p := range []*int{&e.KeySize, &e.SaltSize, &e.Rounds} {
		n, err := parseInt(parts[i+1], 1)
		if err != nil || n > 1024 {
			return wire.Encryption{}, bad
		}
		*p = n
	}
	return e, nil
}

func parsePath(text, dir string) (Path, error) {
	if text == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%q: the home directory is not known", text)
		}
		return Path(filepath.Join(home, rest)), nil
	}
	return Path(Absolute(text, dir)), nil
}

// Absolute returns name in its clean form; a relative one starts at dir.
func Absolute(name, dir string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

func parseUser(text string) (UserID, error) {
	if text == ownID {
		return UserID(os.Getuid()), nil
	}
	if u, err := user.Lookup(text); err == nil {
		text = u.Uid
	}
	n, err := parseID(text)
	return UserID(n), err
}

func parseGroup(text string) (GroupID, error) {
	if text == ownID {
		return GroupID(os.Getgid()), nil
	}
	if g, err := user.LookupGroup(text); err == nil {
		text = g.Gid
	}
	n, err := parseID(text)
	return GroupID(n), err
}

// parseID reads a number; the greatest one means "nobody" to the kernel and is none.
func parseID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("%q is neither a number nor a name known here", text)
	}
	return uint32(n), nil
}

// text writes the value that ptr points to as parse reads it.
func text(ptr any) string {
	switch p := ptr.(type) {
	case *string:
		return *p
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *time.Duration:
		return shortDuration(*p)
	case *Size:
		return p.String()
	case *Octal:
		return fmt.Sprintf("%03o", uint32(*p))
	case *Path:
		return string(*p)
	case *wire.Encryption:
		return fmt.Sprintf("%s:%d:%d:%d", p.Algorithm, p.KeySize, p.SaltSize, p.Rounds)
	case *UserID:
		return strconv.FormatUint(uint64(*p), 10)
	case *GroupID:
		return strconv.FormatUint(uint64(*p), 10)
	}
	return ""
}

// shortDuration writes "5m" where Duration.String writes "5m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
