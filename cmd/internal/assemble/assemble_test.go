package assemble

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// faulty fails the first calls of Stat, or hangs in them.
type faulty struct {
	remote.Backend
	fails atomic.Int32
	calls atomic.Int32
	hang  bool
}

func (f *faulty) Stat(ctx context.Context, path string) (remote.Entry, error) {
	f.calls.Add(1)
	if f.hang {
		<-ctx.Done()
		return remote.Entry{}, remote.ContextErr(ctx)
	}
	if f.fails.Add(-1) >= 0 {
		return remote.Entry{}, &remote.Error{Op: "stat", Path: path, Kind: remote.Unavailable, Err: errors.New("hiccup")}
	}
	return f.Backend.Stat(ctx, path)
}

func branch() *settings.Branch {
	return &settings.Branch{Name: "a", URL: "davs://h/p", MaxConnections: 2, IOTimeout: time.Minute, RetryTime: time.Minute, ConnectTimeout: time.Second}
}

func TestStackRetries(t *testing.T) {
	for _, c := range []struct {
		retry time.Duration
		calls int32
		fails bool
	}{{time.Minute, 3, false}, {0, 1, true}} {
		f := &faulty{Backend: memory.New(memory.Options{})}
		f.fails.Store(2)
		b := branch()
		b.RetryTime = c.retry
		stack := Stack(f, b, Rates{}, slog.New(slog.DiscardHandler))
		_, err := stack.Stat(t.Context(), "/")
		if (err != nil) != c.fails || f.calls.Load() != c.calls {
			t.Errorf("retry time %v: %v after %d calls", c.retry, err, f.calls.Load())
		}
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestStackEndsWhatHangsAndTellsTheOutage(t *testing.T) {
	f := &faulty{Backend: memory.New(memory.Options{}), hang: true}
	b := branch()
	b.IOTimeout, b.RetryTime = 50*time.Millisecond, 0
	var log bytes.Buffer
	stack := Stack(f, b, Rates{}, slog.New(slog.NewTextHandler(&log, nil)))
	if _, err := stack.Stat(t.Context(), "/"); !errors.Is(err, remote.Unavailable) {
		t.Errorf("hanging call: %v", err)
	}
	calls := f.calls.Load()
	_, err := stack.Stat(t.Context(), "/")
	if open, ok := errors.AsType[*remote.OpenError](err); !ok || open.Name != b.URL || f.calls.Load() != calls {
		t.Errorf("after that: %v, %d more calls", err, f.calls.Load()-calls)
	}
	if err := stack.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "server not reachable, probing") {
		t.Errorf("log: %s", log.String())
	}
}

// TestStackKeepsToTheRates, which all branches share.
func TestStackKeepsToTheRates(t *testing.T) {
	const limit = 1 << 20
	rates := NewRates(&settings.Settings{UploadLimit: limit, DownloadLimit: 2 * limit})
	if rates.Up.BytesPerSecond() != limit || rates.Down.BytesPerSecond() != 2*limit {
		t.Errorf("%d, %d", rates.Up.BytesPerSecond(), rates.Down.BytesPerSecond())
	}
	content := make([]byte, limit/4)
	began := time.Now()
	var putting sync.WaitGroup
	for range 2 {
		stack := Stack(memory.New(memory.Options{}), branch(), rates, slog.New(slog.DiscardHandler))
		putting.Go(func() {
			if _, err := stack.Put(t.Context(), "/f", remotetest.Bytes(content), remote.PutOptions{}); err != nil {
				t.Error(err)
			}
			if err := stack.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	putting.Wait()
	// A tenth of a second's worth goes at once.
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("half a second's worth of bytes took %v", took)
	}
}

// TestArchives wants archives only where they are kept, and what the cache holds of a branch
// not to be taken for what it shows in the other way.
func TestArchives(t *testing.T) {
	server, b := memory.New(memory.Options{}), branch()
	plain := CacheTree(b)
	if got := Archives(server, b, slog.New(slog.DiscardHandler)); got != remote.Backend(server) {
		t.Errorf("without --archive=keep: %T", got)
	}
	b.Archive = settings.ArchiveKeep
	kept, ok := remote.As[remote.Batcher](Archives(server, b, slog.New(slog.DiscardHandler)))
	if !ok || kept.Batches().Files < 2 {
		t.Errorf("with --archive=keep: %T", kept)
	}
	if CacheTree(b) == plain || Tree(b) != plain {
		t.Errorf("the cache's tree is %q, the journal's %q", CacheTree(b), Tree(b))
	}
}

func TestClassify(t *testing.T) {
	password, token, anonymous := branch(), branch(), branch()
	password.User, password.Credential.Kind = "me", settings.Password
	token.Credential.Kind = settings.Token
	kind := func(k remote.Kind) error {
		return &remote.Error{Op: "dial", Kind: k, Err: fmt.Errorf("%w (check something)", errors.New("the cause"))}
	}
	network := func(err error) error {
		return &remote.Error{Op: "dial", Kind: remote.Unavailable, Err: &net.OpError{Op: "dial", Err: err}}
	}
	future := &x509.Certificate{NotBefore: time.Now().Add(48 * time.Hour), NotAfter: time.Now().Add(96 * time.Hour)}
	cases := []struct {
		name string
		b    *settings.Branch
		err  error
		code exit.Code
		want string
	}{
		{"password", password, kind(remote.Auth), exit.AuthFailed, "the server refused the password of me; check it"},
		{"token", token, kind(remote.Auth), exit.AuthFailed, "the server refused the token; get a new token"},
		{"no login", anonymous, kind(remote.Auth), exit.AuthFailed, "the server wants a login; write davs://USER@HOST/PATH"},
		{"lost secret", token, &remote.Error{Kind: remote.Auth, Err: exit.New(exit.SecretMissing, "", "gone")}, exit.SecretMissing, "gone"},
		{"permission", password, kind(remote.Permission), exit.Denied, "permission denied: the cause; check the path"},
		{"missing", password, kind(remote.NotExist), exit.NotCollection, "not a WebDAV collection: the cause; check the path"},
		{"file", password, kind(remote.NotDir), exit.NotCollection, "not a WebDAV collection"},
		{"trouble", password, kind(remote.Unavailable), exit.ServerTrouble, "the server is in trouble: the cause; try again"},
		{"other", password, kind(remote.TooLarge), exit.ServerTrouble, "branch a (davs://h/p)"},
		{"host", password, network(&net.DNSError{Name: "h", IsNotFound: true}), exit.UnknownHost, "unknown host h; check the host name"},
		{"name server", password, network(&net.DNSError{Name: "h", Err: "i/o timeout", IsTimeout: true}), exit.UnknownHost, "did not tell the address of h (i/o timeout)"},
		{"refused", password, network(os.NewSyscallError("connect", syscall.ECONNREFUSED)), exit.Unreachable, "connection refused (h); check host and port"},
		{"unreachable", password, network(os.NewSyscallError("connect", syscall.ENETUNREACH)), exit.Unreachable, "the network is unreachable"},
		{"timeout", password, network(os.ErrDeadlineExceeded), exit.Unreachable, "no answer in time"},
		{"reset", password, network(syscall.ECONNRESET), exit.Unreachable, "connection reset"},
		{"patience", password, &remote.Error{Kind: remote.Unavailable, Err: errPatience}, exit.Unreachable, "no answer in time"},
		{"not yet valid", password, x509.CertificateInvalidError{Cert: future, Reason: x509.Expired}, exit.TLS, "is not valid before " + future.NotBefore.Format(time.DateOnly)},
		{"other host", password, x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other"}}, Host: "h"}, exit.TLS, "other, not h; check the host name"},
		{"plain", password, http.ErrSchemeMismatch, exit.TLS, "h does not speak TLS at this port; use dav://"},
		{"interrupt", password, context.Canceled, exit.Interrupted, "interrupted while connecting"},
	}
	for _, c := range cases {
		err := Classify(c.b, c.err)
		if exit.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: code %d, %v; want %d, %s", c.name, exit.CodeOf(err), err, c.code, c.want)
		}
	}
}

func TestDialAllLeavesNothingOpen(t *testing.T) {
	good, err := efss.Start(efss.Options{Dir: t.TempDir(), Users: []efss.User{{Name: "me", Token: "t"}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = good.Close() }()
	fine, bad := branch(), branch()
	fine.URL, fine.Credential.Kind = strings.Replace(good.DAVURL("me"), "http", "dav", 1), settings.Token
	bad.Name, bad.URL = "b", "dav://127.0.0.1:1/"
	asked := 0
	d := Dialer{Log: slog.New(slog.DiscardHandler), Agent: "meshmount/test", Secrets: func(*settings.Branch) remote.SecretSource {
		asked++
		return func(context.Context) (remote.Secret, error) { return remote.NewSecret("t"), nil }
	}}
	list, err := d.DialAll(t.Context(), []settings.Branch{*fine, *bad})
	if list != nil || exit.CodeOf(err) != exit.Unreachable || !strings.Contains(err.Error(), "branch b") {
		t.Errorf("%v, %v", list, err)
	}
	list, err = d.DialAll(t.Context(), []settings.Branch{*fine})
	if err != nil {
		t.Fatal(err)
	}
	if facts := fmt.Sprint(Describe(list[0])...); !strings.Contains(facts, "dialect") || asked != 2 {
		t.Errorf("%s, asked %d times", facts, asked)
	}
	if err := list[0].Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.DialAll(ctx, []settings.Branch{*fine}); exit.CodeOf(err) != exit.Interrupted {
		t.Errorf("interrupted: %v", err)
	}
}
