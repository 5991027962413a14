package irods

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Backend is a collection of a zone as a branch. It is safe for concurrent use.
type Backend struct {
	opts    Options
	zone    string // that Root lies in
	login   login
	pool    *pool
	who     identity
	clock   clock
	pace    pace
	tears   tears
	puzzles puzzles
	growers growers

	choices  choices
	batching batching
	shared   sharing
	blind    atomic.Bool // the numbers of descriptors cannot be guessed
	plain    atomic.Bool // the server has checksums of another kind than ours, and of no other

	lessons lessons // of large transfers
	vigil   vigil   // while the server computes a checksum: patientVigil, another in tests
	piece   int     // bytes of a piece of those, and the most of what is small: pieceSize, less in tests
	tree    int     // the most collections of a tree that is not large: mostColls, less in tests
	seen    struct {
		sync.Mutex
		version wire.Version
		tls     *tls.ConnectionState
	}
	trust *tls.Config
}

var _ interface {
	remote.Backend
	remote.AttrSetter
	remote.AttrBatcher
	remote.Symlinker
	remote.Opener
	remote.GrowingPutter
	remote.Patcher
	remote.Usager
	remote.Locator
	remote.Tracker
	remote.Batcher
	remote.Pruner
	remote.Sweeper
} = (*Backend)(nil)

// oldest is the first release whose servers lock replicas while they are written and
// take several writers with a token.
var oldest = [3]int{4, 2, 9}

// Dial connects to a zone, logs in once, and checks that the collection is there. ctx
// bounds all of it and has no meaning afterwards.
//
// Errors by Kind: Auth (user or password), Unsupported (server too old, or the two ends
// do not agree on TLS), Permission (certificate), NotExist (zone or collection),
// NotDir (the collection is an object), Unavailable, Corrupt (not an iRODS server).
func Dial(ctx context.Context, opts Options) (*Backend, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, remote.E("connect", "", remote.Invalid, err)
	}
	b := &Backend{opts: opts, zone: zoneOf(opts.Root), piece: pieceSize, tree: mostColls, vigil: patientVigil}
	b.login.source, b.login.pause = opts.Password, askPause
	if b.trust, err = trust(opts.CAFile, opts.CADir); err != nil {
		return nil, remote.E("connect", "", remote.Invalid, err)
	}
	b.shared.b = b
	b.shared.change.L = &b.shared.mu
	b.pool = newPool(b.connect, opts.MaxConns, opts.IdleTimeout)
	b.growers = make(growers, opts.MaxConns/2)
	if err := b.arrive(ctx); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// arrive makes the first connection and looks at the root.
func (b *Backend) arrive(ctx context.Context) error {
	e, err := b.Stat(ctx, "/")
	switch {
	case remote.KindOf(err) == remote.NotExist:
		return remote.E("connect", "/", remote.NotExist, fmt.Errorf(
			"the zone has no collection %s that %s may see", b.opts.Root, b.ownerName()))
	case err != nil:
		return err
	case e.Type != remote.Dir:
		return remote.E("connect", "/", remote.NotDir, fmt.Errorf("%s is a data object, not a collection", b.opts.Root))
	}
	return nil
}

// trust returns the certificates to trust, nil for the system's.
func trust(file, dir string) (*tls.Config, error) {
	if file == "" && dir == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
		}
	}
	if dir != "" {
		if err := trustDir(roots, dir); err != nil {
			return nil, err
		}
	}
	return &tls.Config{RootCAs: roots}, nil
}

// trustDir adds the certificates of a directory, each in a file. What else lies there
// means nothing, and a directory that is missing holds none: settings of iCommands are
// copied from other machines, and OpenSSL takes it so, too.
func trustDir(roots *x509.CertPool, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if pem, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
			roots.AppendCertsFromPEM(pem)
		}
	}
	return nil
}

// connect makes a connection for the pool.
func (b *Backend) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.opts.ConnectTimeout,
		&remote.Error{Op: "connect", Kind: remote.Unavailable, Err: fmt.Errorf("no answer in %v: %w", b.opts.ConnectTimeout, os.ErrDeadlineExceeded)})
	defer cancel()
	conn, err := b.logIn(ctx)
	if err != nil {
		return nil, err
	}
	if v := conn.Server(); v.Before(oldest[0], oldest[1], oldest[2]) {
		_ = conn.Close()
		return nil, remote.E("connect", "", remote.Unsupported, fmt.Errorf(
			"the server is %s; iRODS %d.%d.%d or newer is needed", v.ReleaseVersion, oldest[0], oldest[1], oldest[2]))
	}
	b.seen.Lock()
	b.seen.version, b.seen.tls = conn.Server(), conn.TLS()
	b.seen.Unlock()
	return &session{conn: conn, used: time.Now()}, nil
}

// logIn makes a connection and logs in: twice if the server refuses a secret that had
// been good, and there is another one.
func (b *Backend) logIn(ctx context.Context) (*wire.Conn, error) {
	for {
		a, err := b.login.begin(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := wire.Dial(ctx, b.config(a))
		if err == nil {
			a.succeeded()
			return conn, nil
		}
		failure := dialFailure(ctx, err)
		refused := code(err) != 0 && remote.KindOf(failure) == remote.Auth
		if !refused || !a.refused(failure) {
			return nil, failure
		}
	}
}

func (b *Backend) config(a *attempt) wire.Config {
	return wire.Config{
		Address: b.opts.address(), User: b.opts.User, Zone: b.opts.Zone,
		Scheme: b.opts.Scheme, Password: a.password,
		Policy: b.opts.Policy, TLS: b.trust, Verify: b.opts.Verify, Encryption: b.opts.Encryption,
		AppName: b.opts.AppName, Progress: remote.Progress,
	}
}

// Close implements remote.Backend.
func (b *Backend) Close() error {
	b.pool.close()
	return nil
}

// Info returns what is known of the server.
func (b *Backend) Info() Info {
	b.seen.Lock()
	version, state := b.seen.version, b.seen.tls
	b.seen.Unlock()
	info := Info{
		Version: strings.TrimPrefix(version.ReleaseVersion, "rods"), User: b.ownerName(), Root: b.opts.Root,
		Auth: "native", RoundTrip: b.pace.roundTrip(), Resource: b.opts.Resource,
	}
	switch {
	case b.opts.User == wire.Anonymous:
		info.Auth = "anonymous"
	case b.opts.Scheme == wire.SchemePAM:
		info.Auth = "pam_password"
	}
	if state != nil {
		info.TLS = tls.VersionName(state.Version)
	}
	b.clock.mu.Lock()
	info.ClockSkew, info.SkewKnown = b.clock.skew, b.clock.known
	b.clock.mu.Unlock()
	return info
}

// Caps implements remote.Backend.
func (b *Backend) Caps() remote.Caps {
	return remote.Caps{
		Dialect:   "irods",
		Overwrite: remote.GuardLook, Create: remote.GuardLook, RemoveGuard: remote.GuardLook,
		Ranges: true, StoresMTime: true, StoresMode: true, StoresSymlinks: true,
		TimeGranularity: time.Second, MaxName: maxName,
	}
}

// URL implements remote.Locator.
func (b *Backend) URL(path string) string {
	user := b.opts.User
	if b.opts.Zone != b.zone {
		user = b.ownerName()
	}
	u := url.URL{Scheme: "irods", User: url.User(user), Host: b.opts.address(), Path: b.full(path)}
	return u.String()
}
