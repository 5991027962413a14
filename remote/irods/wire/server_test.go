package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// testPassword is the password of the user rods in the tests.
const testPassword = "c0rrect-horse/Battery+staple"

// handler serves one request that the session does not handle by itself.
type handler func(s *Session, r *Request) error

// serve runs a server on loopback until the test ends, and returns its address.
func serve(t *testing.T, cfg ServerConfig, h handler) string {
	t.Helper()
	if cfg.Password == nil {
		cfg.Password = func(user, zone string) (string, bool) {
			return testPassword, user == "rods" && zone == "tempZone"
		}
	}
	return listen(t, func(ctx context.Context, nc net.Conn) {
		s, err := Accept(ctx, nc, cfg)
		if err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		for {
			r, err := s.Next()
			if err != nil {
				return
			}
			if h == nil || h(s, r) != nil {
				return
			}
		}
	})
}

// listen runs f for each connection until the test ends.
func listen(t *testing.T, f func(ctx context.Context, nc net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
				defer stop()
				defer func() { _ = nc.Close() }()
				f(ctx, nc)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// config is a client's configuration for serve's account.
func config(address string) Config {
	return Config{
		Address: address, User: "rods", Zone: "tempZone", Policy: PolicyNone, AppName: "wire.test",
		Password: func(context.Context) (string, error) { return testPassword, nil },
	}
}

// dial connects for the time of the test.
func dial(t *testing.T, cfg Config) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo answers every call with its byte stream and, as text, the path.
func echo(s *Session, r *Request) error {
	var in DataObjInp
	if err := r.Decode(&in); err != nil {
		return s.Reply(CodePacking, nil, nil)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return s.Reply(len(body), &STR{Text: in.Path}, body)
}

// authority makes certificates.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &authority{cert, key, roots}
}

// issue returns a server's configuration with a certificate for name.
func (a *authority) issue(t *testing.T, name string, until time.Time) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// code returns the error code that err carries, for comparisons.
func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	if CodeOf(err) != code {
		t.Errorf("error %v, want code %d", err, code)
	}
}

// wantBroken checks for a *BrokenError with the cause and Sent as given.
func wantBroken(t *testing.T, err, cause error, sent bool) {
	t.Helper()
	var broken *BrokenError
	if !errors.As(err, &broken) || broken.Sent != sent || (cause != nil && !errors.Is(err, cause)) {
		t.Errorf("error %#v (%v), want BrokenError{Sent: %v} because of %v", err, err, sent, cause)
	}
}
