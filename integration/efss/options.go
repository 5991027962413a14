package efss

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Dialect is a server to resemble.
type Dialect uint8

// The dialects. The facts behind them were measured on the named versions.
const (
	Nextcloud Dialect = iota // Nextcloud 34.0.1, local storage
	OpenCloud                // OpenCloud 0.1.0, the oCIS family
	Reva                     // Reva v3 with its localhome driver
	ModDAV                   // Apache 2.4 mod_dav with mod_dav_fs
	Rclone                   // rclone 1.60 serve webdav
	XRootD                   // XRootD 5.5
	Generic                  // RFC 4918 by the book, but PUT writes in place
)

var dialectNames = [...]string{
	Nextcloud: "nextcloud", OpenCloud: "opencloud", Reva: "reva", ModDAV: "moddav",
	Rclone: "rclone", XRootD: "xrootd", Generic: "generic",
}

// Dialects returns all dialects, for tests that must cover each.
func Dialects() []Dialect {
	all := make([]Dialect, len(dialectNames))
	for i := range all {
		all[i] = Dialect(i)
	}
	return all
}

// String returns the dialect's name in lower case.
func (d Dialect) String() string {
	if int(d) < len(dialectNames) {
		return dialectNames[d]
	}
	return fmt.Sprintf("dialect %d", uint8(d))
}

// User is an account. At least one of Password, AppPassword and Token is needed.
type User struct {
	Name        string // also the user's id in URLs and the name of the directory
	Password    string // for Basic
	AppPassword string // for Basic and as a bearer token
	Token       string // bearer token only
	Quota       int64  // bytes, 0 for unlimited; only Nextcloud enforces it
}

// Options configure a Server. The zero value of a field means its default.
type Options struct {
	Dir     string  // where the data lies; made if missing
	Dialect Dialect // default Nextcloud
	Users   []User  // at least one
	// Log gets one debug line a request and warnings about faults of the disk.
	// Default: nothing is logged.
	Log *slog.Logger
	// Now is the server's clock, by default time.Now. It drives Date, ETags, mtimes
	// and expiry.
	Now func() time.Time
	// PasswordCost is how long checking a login password (not an app password or
	// token) takes, on every request. Real servers spend 8-25 times the request on
	// it.
	PasswordCost time.Duration
	// Digest makes the server ask for digest instead of basic authentication. Only
	// for ModDAV and Generic.
	Digest bool
	// NoLocks answers LOCK with 501 (Nextcloud before the bundled files_lock).
	NoLocks bool
	// ReadLocks makes a read in progress refuse, with 423, also a chunk assembly onto
	// the file, its MOVE and its DELETE, as the source of Nextcloud has it. Without it
	// only a PUT in place is refused then. For Nextcloud only.
	ReadLocks bool
	// DeferLength lets tus uploads tell their length with the last part
	// (creation-defer-length), which none of the measured servers does. For OpenCloud.
	DeferLength bool
	// NoBulk switches the bulk upload off, as an administrator can. For Nextcloud only.
	NoBulk bool
	// NoFolders sends no folder as an archive, as before Nextcloud 31. For Nextcloud only.
	NoFolders bool
	// ArchiveFiles and ArchiveBytes bound one archive, which just ends there; 10,000 and 1
	// GiB by default. For OpenCloud only.
	ArchiveFiles, ArchiveBytes int64
	// NoGzip never compresses listings.
	NoGzip bool
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// validate reports all faults at once.
func (o *Options) validate() error {
	var faults []error
	if o.Dir == "" {
		faults = append(faults, errors.New("no directory"))
	}
	if int(o.Dialect) >= len(dialectNames) {
		faults = append(faults, fmt.Errorf("unknown dialect %d", o.Dialect))
	}
	if len(o.Users) == 0 {
		faults = append(faults, errors.New("no user"))
	}
	if o.Digest && o.Dialect != ModDAV && o.Dialect != Generic {
		faults = append(faults, fmt.Errorf("%v has no digest authentication", o.Dialect))
	}
	seen := map[string]bool{}
	for _, u := range o.Users {
		faults = append(faults, u.validate())
		if seen[u.Name] {
			faults = append(faults, fmt.Errorf("user %q is there twice", u.Name))
		}
		seen[u.Name] = true
	}
	return errors.Join(faults...)
}

func (u User) validate() error {
	if u.Name == "" || u.Name == "." || u.Name == ".." || strings.ContainsAny(u.Name, "/\\:\x00") {
		return fmt.Errorf("user name %q cannot be used", u.Name)
	}
	if u.Password == "" && u.AppPassword == "" && u.Token == "" {
		return fmt.Errorf("user %q has no secret", u.Name)
	}
	if u.Quota < 0 {
		return fmt.Errorf("user %q has a negative quota", u.Name)
	}
	return nil
}
