package irods

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// DefaultPort is where iRODS servers listen.
const DefaultPort = 1247

// Options say what to mount and how. Host, User, Zone and Root are needed; everything
// else has a default.
type Options struct {
	Host string // name or address, without brackets
	Port int    // DefaultPort by default
	// User of Zone logs in. The user "anonymous" needs no password.
	User, Zone string
	// Root is the absolute path of the branch's collection, "/zone/home/user" for one.
	// Its first element may be another zone, federated with Zone.
	Root string

	// Scheme is how to log in. PAM needs TLS.
	Scheme wire.Scheme
	// Password is asked for when the server wants it.
	Password remote.SecretSource
	// Policy is this end's will to use TLS.
	Policy wire.Policy
	// CAFile is a file of PEM certificates that are trusted besides the system's.
	CAFile string
	// CADir is a directory of such files, as irods_ssl_ca_certificate_path.
	CADir string
	// Verify says how far the server's certificate is checked.
	Verify wire.Verify
	// Encryption is announced after the start of TLS. Zero values become the defaults
	// of irods_environment.json.
	Encryption wire.Encryption

	// Resource takes new objects; empty lets the server choose.
	Resource string
	// Trash moves what is removed to the zone's trash instead of deleting it.
	Trash bool
	// Checksums has the server compute a checksum of each file of a batch, which is compared
	// and kept. It costs the server 10 ms a file (measured on 5.0.2), more than twice what
	// the batch itself does. Files that are put alone always have one.
	Checksums bool
	// MaxConns bounds the connections, 4 by default. Each is a process and a database
	// connection at the server.
	MaxConns int
	// IdleTimeout is how long a connection is kept without use, 1 min by default; the
	// last one is kept ten times as long.
	IdleTimeout time.Duration
	// ConnectTimeout bounds the making of a connection, login included; 15 s by default.
	ConnectTimeout time.Duration
	// Logger gets debug lines about what was refused and found. Default: none.
	Logger *slog.Logger
	// AppName is what the server's list of processes shows, "meshmount" by default.
	AppName string
}

// withDefaults returns o with the defaults filled in, or all faults at once.
func (o Options) withDefaults() (Options, error) {
	var faults []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	need(o.Host != "", "no host")
	need(o.User != "", "no user: write irods://user@host/zone/collection")
	need(o.Zone != "", "no zone")
	need(strings.HasPrefix(o.Root, "/") && path.Clean(o.Root) == o.Root && o.Root != "/",
		"the collection %q is not of the form /zone/collection", o.Root)
	need(utf8.ValidString(o.Root), "the collection %q is not UTF-8", o.Root)
	need(o.Port >= 0 && o.Port < 1<<16, "port %d is out of range", o.Port)
	need(o.Password != nil || o.User == wire.Anonymous, "no password for the user %q", o.User)
	o.Port = defaultTo(o.Port, DefaultPort)
	o.MaxConns = defaultTo(o.MaxConns, 4)
	o.IdleTimeout = defaultTo(o.IdleTimeout, time.Minute)
	o.ConnectTimeout = defaultTo(o.ConnectTimeout, 15*time.Second)
	o.AppName = defaultTo(o.AppName, "meshmount")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, errors.Join(faults...)
}

func defaultTo[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// address returns host:port.
func (o *Options) address() string { return net.JoinHostPort(o.Host, strconv.Itoa(o.Port)) }

// Info is what Dial found out, for people (doctor, status).
type Info struct {
	Version string // of the server, "5.0.2"
	User    string // "user#zone"
	Root    string // the branch's collection
	TLS     string // "TLS 1.3", empty without
	Auth    string // "native", "pam_password", "anonymous"
	// RoundTrip is the shortest time of a call so far.
	RoundTrip time.Duration
	// Resource is where new objects go, empty if the server chooses.
	Resource string
	// ClockSkew is the server's clock minus ours, to about a second; SkewKnown is
	// false before anything told it.
	ClockSkew time.Duration
	SkewKnown bool
}
