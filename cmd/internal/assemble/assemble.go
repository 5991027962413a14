// Package assemble builds what a mount consists of: it dials the servers and stacks
// the layers between them and the kernel.
package assemble

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"

	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/webdav"
)

// Rates are the bounds of bytes per second that all branches of a mount share.
type Rates struct{ Up, Down *remote.Rate }

// NewRates returns the bounds that the settings give.
func NewRates(s *settings.Settings) Rates {
	return Rates{Up: remote.NewRate(int64(s.UploadLimit)), Down: remote.NewRate(int64(s.DownloadLimit))}
}

// Stack puts the decorators around a branch's adapter, innermost first: the watchdog
// judges single calls, without their waits for the rates, which throttle has; the limit
// counts those on the way; what is observed is one
// attempt; the breaker sees every failure of the server; retry is outermost, so that
// its back-off holds no connection, and it sees the breaker's refusals.
func Stack(adapter remote.Backend, b *settings.Branch, rates Rates, log *slog.Logger) remote.Backend {
	stack := adapter
	if b.IOTimeout > 0 {
		stack = remote.Watchdog(stack, b.IOTimeout)
	}
	stack = remote.Throttle(stack, rates.Up, rates.Down)
	stack = remote.Limit(stack, b.Calls())
	stack = remote.Observe(stack, log)
	stack = remote.Breaker(stack, remote.BreakerOptions{
		Name:         b.URL,
		ProbeTimeout: b.ConnectTimeout,
		OnChange:     outage(b, log),
	})
	if b.RetryTime > 0 {
		stack = remote.Retry(stack, remote.RetryOptions{Tries: math.MaxInt32, Elapsed: b.RetryTime})
	}
	return stack
}

// Archives shows the files in the archives of a branch that keeps such. It stands outside
// Stack: it makes many calls of one, each of which is retried by itself.
func Archives(stack remote.Backend, b *settings.Branch, log *slog.Logger) remote.Backend {
	if b.Archive != settings.ArchiveKeep {
		return stack
	}
	return keep.Wrap(stack, keep.Options{Logger: log})
}

// outage logs when a server goes and comes back.
func outage(b *settings.Branch, log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Warn("server not reachable, probing", "branch", b.Name, "url", b.URL, "err", err)
			return
		}
		log.Info("server is back", "branch", b.Name, "url", b.URL)
	}
}

// Dialer connects to servers.
type Dialer struct {
	// Secrets gives the source of a branch's secret.
	Secrets func(*settings.Branch) remote.SecretSource
	Log     *slog.Logger
	Agent   string // how the program calls itself to servers
}

// Dial connects to a branch's server and finds out what it is; Describe tells that. It
// makes one attempt to log in. The error is an *exit.Error.
func (d *Dialer) Dial(ctx context.Context, b *settings.Branch) (remote.Backend, error) {
	ctx, cancel := patience(ctx, b)
	defer cancel()
	dial := d.dialShare
	if b.Kind() == settings.Zone {
		dial = d.dialZone
	}
	backend, err := dial(ctx, b)
	if err != nil {
		return nil, Classify(b, err)
	}
	return backend, nil
}

func (d *Dialer) dialShare(ctx context.Context, b *settings.Branch) (remote.Backend, error) {
	root, _, err := webdav.ParseURL(b.URL)
	if err != nil {
		return nil, err
	}
	opts := webdav.Options{
		URL: root, User: b.User, CAFile: string(b.CAFile), AllowPlainHTTP: b.AllowPlainHTTP,
		MaxConns: b.MaxConnections, Bulk: b.BulkUpload, ConnectTimeout: b.ConnectTimeout, Logger: d.Log.With("branch", b.Name), UserAgent: d.Agent,
	}
	if b.Dialect != settings.AutoDialect {
		opts.Dialect = b.Dialect
	}
	switch b.Credential.Kind {
	case settings.Password:
		opts.Password = d.Secrets(b)
	case settings.Token:
		opts.Token = d.Secrets(b)
	}
	backend, err := webdav.Dial(ctx, opts)
	if err != nil {
		return nil, err // not a nil pointer that is no nil interface
	}
	return backend, nil
}

// Describe returns what Dial has found out about a branch, for the log.
func Describe(b remote.Backend) []any {
	switch b := b.(type) {
	case *webdav.Backend:
		i := b.Info()
		return []any{"url", i.Root, "dialect", i.Dialect, "product", i.Product, "version", i.Version, "protocol", i.Protocol, "uploads", i.Uploads}
	case *irods.Backend:
		i := b.Info()
		return []any{"collection", i.Root, "product", "iRODS", "version", i.Version, "user", i.User, "auth", i.Auth, "tls", i.TLS, "resource", i.Resource}
	}
	return nil
}

// patience bounds the whole conversation of Dial, a handful of requests.
func patience(ctx context.Context, b *settings.Branch) (context.Context, context.CancelFunc) {
	if b.IOTimeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, b.ConnectTimeout+b.IOTimeout,
		&remote.Error{Op: "connect", Kind: remote.Unavailable, Err: errPatience})
}

// errPatience is the cause of the end of a Dial that took too long.
var errPatience = errors.New("no answer in time")

// DialAll dials all branches at once. If one fails the others are given up, nothing
// is left open, and the first error to happen is returned.
func (d *Dialer) DialAll(ctx context.Context, branches []settings.Branch) ([]remote.Backend, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := make([]remote.Backend, len(branches))
	var dialling sync.WaitGroup
	var once sync.Once
	var first error
	for i := range branches {
		dialling.Go(func() {
			b, err := d.Dial(ctx, &branches[i])
			if err != nil {
				once.Do(func() { first = err })
				cancel()
				return
			}
			list[i] = b
		})
	}
	dialling.Wait()
	if first == nil {
		return list, nil
	}
	for _, b := range list {
		if b != nil {
			_ = b.Close() // what is wrong is told already
		}
	}
	return nil, first
}
