package webdav

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Options say what to mount and how. URL is needed; everything else has a default.
type Options struct {
	// URL is the http or https address of the branch's root collection, as ParseURL
	// returns it: no user, no query. If its path is empty and the server belongs to
	// the Nextcloud and ownCloud family, the root is the user's files.
	URL *url.URL
	// User logs in with Password. Without Password it is not used.
	User string
	// Password is for basic and digest authentication, Token for bearer; at most
	// one may be set. With neither, no credentials are sent.
	Password, Token remote.SecretSource
	// CAFile is a file of PEM certificates that are trusted besides the system's.
	CAFile string
	// AllowPlainHTTP permits http to a host that is not this machine.
	AllowPlainHTTP bool
	// Dialect is one of Dialects; "" finds it out.
	Dialect string
	// MaxConns bounds the connections to one host, 64 by default. They are made as they
	// are needed. Over 50 ms a connection carries some 18 small files a second: 16
	// brought 305 a second, 32 590, 64 1,100. Eight do for large files.
	MaxConns int
	// Bulk lets batches use Nextcloud's bulk upload, which has no conditions: what somebody
	// else makes at the same path in the moment before it is replaced. Without it each file
	// of a batch is a request of its own that replaces nothing.
	Bulk bool
	// ConnectTimeout bounds the making of a connection, TLS included; 15 s by
	// default.
	ConnectTimeout time.Duration
	// AnswerTimeout bounds the wait for the head of an answer once a request is
	// sent, 30 min by default: putting the chunks of a large file together takes a
	// server that long. Bodies have no bound in total; see remote.Watchdog.
	AnswerTimeout time.Duration
	// Logger gets debug lines about what was refused and found. Default: none.
	Logger *slog.Logger
	// UserAgent is sent with every request, "meshmount" by default.
	UserAgent string
}

// Info is what Dial found out, for people (doctor, status).
type Info struct {
	Dialect  string // one of Dialects
	Product  string // "Nextcloud", "Apache/2.4.71 (Debian)", ...; may be empty
	Version  string // of the product, if it says so
	Root     string // URL of the root collection
	UserID   string // the user's id in URLs, if the server has such a thing
	Protocol string // "HTTP/1.1", "HTTP/2.0"
	Auth     string // "none", "basic", "digest", "bearer"
	// ClockSkew is the server's clock minus ours, to about a second; SkewKnown is
	// false if the server does not tell its time.
	ClockSkew time.Duration
	SkewKnown bool
	// Uploads says in words how files are stored and what that is worth.
	Uploads string
}

// withDefaults returns o with the defaults filled in, or all faults at once.
func (o Options) withDefaults() (Options, error) {
	var faults []error
	switch {
	case o.URL == nil || o.URL.Host == "":
		faults = append(faults, errors.New("no URL"))
	case o.URL.Scheme != "http" && o.URL.Scheme != "https":
		faults = append(faults, fmt.Errorf("scheme %q is neither http nor https", o.URL.Scheme))
	case o.URL.User != nil:
		faults = append(faults, errors.New("the URL must not hold a user"))
	case o.URL.Scheme == "http" && !o.AllowPlainHTTP && !loopback(o.URL.Hostname()):
		faults = append(faults, errors.New("plain HTTP shows password and data to everybody on the way: "+
			"use davs://, or allow plain HTTP"))
	}
	if o.Password != nil && o.Token != nil {
		faults = append(faults, errors.New("both a password and a token are given; give one"))
	}
	if o.Password != nil && o.User == "" {
		faults = append(faults, errors.New("a password is given but no user; write davs://user@host/path"))
	}
	if o.Dialect != "" {
		if _, ok := rowOf(o.Dialect); !ok {
			faults = append(faults, fmt.Errorf("unknown dialect %q; known are %v", o.Dialect, Dialects()))
		}
	}
	if o.MaxConns < 0 || o.ConnectTimeout < 0 || o.AnswerTimeout < 0 {
		faults = append(faults, errors.New("MaxConns and time-outs cannot be negative"))
	}
	o.MaxConns = orDefault(o.MaxConns, 64)
	o.ConnectTimeout = orDefault(o.ConnectTimeout, 15*time.Second)
	o.AnswerTimeout = orDefault(o.AnswerTimeout, 30*time.Minute)
	o.UserAgent = orDefault(o.UserAgent, "meshmount")
	o.Logger = orDefault(o.Logger, slog.New(slog.DiscardHandler))
	return o, errors.Join(faults...)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
