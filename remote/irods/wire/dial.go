package wire

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Release is the version that both ends announce. Servers choose the rules of
// packing by it.
const (
	Release    = "rods5.0.2"
	apiVersion = "d"
)

// Config says where to connect, as whom, and how.
type Config struct {
	Address string // host:port
	// User in Zone is whose permissions count. Proxy, if set, is who logs in instead
	// (an administrator acting for User).
	User, Zone           string
	ProxyUser, ProxyZone string

	Scheme Scheme
	// Password is called when the password is needed, and not before the connection
	// is fit for it. It is not called for the user "anonymous".
	Password func(ctx context.Context) (string, error)
	// PasswordTTL is the life in hours of the password that PAM makes, 0 for the
	// server's default.
	PasswordTTL int

	Policy Policy
	// TLS is what to trust; nil means the system's roots. An empty ServerName becomes
	// the host of Address.
	TLS    *tls.Config
	Verify Verify
	// Encryption parameters that the client must name under TLS, though only parallel
	// transfer over ports of their own uses them. Zero values become the defaults of
	// irods_environment.json.
	Encryption Encryption

	AppName string // shown by the server's list of processes
	// Dial opens the connection; nil means TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Progress, if not nil, is called with the call's context whenever bytes move.
	Progress func(ctx context.Context)
	Limits   Limits
}

// Scheme is a way to authenticate.
type Scheme uint8

// The schemes.
const (
	SchemeNative Scheme = iota // challenge and response
	SchemePAM                  // password over TLS, then native with one made by the server
)

// Verify says how far a server's certificate is checked.
type Verify uint8

// The values of irods_ssl_verify_server.
const (
	VerifyHostname Verify = iota // chain and host name
	VerifyCert                   // chain only
	VerifyNone
)

// Encryption is what the client announces after the TLS handshake.
type Encryption struct {
	Algorithm                 string // "AES-256-CBC"
	KeySize, SaltSize, Rounds int    // 32, 8, 16
}

// ErrNoTLS is returned when a password would have to go over a connection without TLS.
var ErrNoTLS = errors.New("irods: the server does not offer TLS, which this way to log in needs")

// Dial connects, negotiates, starts TLS if agreed, and authenticates. ctx bounds all
// of it and has no meaning afterwards.
//
// Errors: *Error if the server refuses (CodeWrongPassword, CodeUnknownUser,
// CodeLibrary when its catalog takes no more connections, ...), *NegotiationError,
// ErrNoTLS, *BrokenError for everything on the network, with the TLS library's errors
// as cause.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	c, err := connect(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	err = c.guard(ctx, func() error { return c.startup(ctx) })
	if err == nil {
		err = c.authenticate(ctx)
	}
	if err == nil {
		return c, nil
	}
	_ = c.Close()
	return nil, dialError(err)
}

// dialError wraps what is not one of the errors that Dial promises.
func dialError(err error) error {
	var (
		refused     *Error
		broken      *BrokenError
		negotiation *NegotiationError
		credential  *credentialError
	)
	switch {
	case errors.As(err, &refused), errors.As(err, &broken), errors.As(err, &negotiation), errors.Is(err, ErrNoTLS):
		return err
	case errors.As(err, &credential):
		return credential.err
	}
	return &BrokenError{Err: err}
}

// connect opens the network connection.
func connect(ctx context.Context, cfg *Config) (*Conn, error) {
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	nc, err := dial(ctx, "tcp", cfg.Address)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &BrokenError{Err: err}
	}
	c := &Conn{cfg: *cfg, limits: cfg.Limits.withDefaults(), raw: nc, nc: network{nc}, tick: func() {}}
	c.r = bufio.NewReaderSize(progressReader{c}, readBuffer)
	return c, nil
}

// startup runs the dialogue up to TLS.
func (c *Conn) startup(ctx context.Context) error {
	if err := c.write(appendFrame(nil, header{kind: typeConnect}, c.startupPack(), false)); err != nil {
		return err
	}
	useTLS := false
	h, err := readHeader(c.r, c.limits)
	if err == nil && h.kind == typeNeg && c.cfg.Policy != PolicyNone {
		useTLS, err = c.negotiate(h)
		if err == nil {
			h, err = readHeader(c.r, c.limits)
		}
	}
	if err != nil {
		return unexpected(err)
	}
	if err := c.readVersion(h); err != nil {
		return err
	}
	if useTLS {
		return c.startTLS(ctx)
	}
	if c.cfg.Policy == PolicyRequire { // a server that does not negotiate
		return &NegotiationError{c.cfg.Policy, PolicyNone}
	}
	return nil
}

func (c *Conn) startupPack() *StartupPack {
	m := &StartupPack{
		Protocol: 1, ReleaseVersion: Release, APIVersion: apiVersion,
		ProxyUser: c.proxyUser(), ProxyZone: c.proxyZone(),
		ClientUser: c.cfg.User, ClientZone: c.cfg.Zone, Option: c.cfg.AppName,
	}
	if c.cfg.Policy != PolicyNone {
		m.Option += RequestNegotiation
	}
	return m
}

func (c *Conn) proxyUser() string {
	if c.cfg.ProxyUser != "" {
		return c.cfg.ProxyUser
	}
	return c.cfg.User
}

func (c *Conn) proxyZone() string {
	if c.cfg.ProxyZone != "" {
		return c.cfg.ProxyZone
	}
	return c.cfg.Zone
}

// negotiate answers the server's policy.
func (c *Conn) negotiate(h header) (useTLS bool, err error) {
	msg, err := readPart(c.r, h.msgLen)
	if err != nil {
		return false, err
	}
	var server csNeg
	if err := Unpack(msg, &server); err != nil {
		return false, err
	}
	policy, err := ParsePolicy(server.result)
	if err != nil || server.status != negSuccess {
		return false, fmt.Errorf("%w: negotiation says %.40q, status %d", ErrFrame, server.result, server.status)
	}
	useTLS, ok := Agree(c.cfg.Policy, policy)
	answer := csNeg{status: negSuccess, result: negResult + negUseTCP + ";"}
	switch {
	case !ok:
		answer = csNeg{result: negFailure}
	case useTLS:
		answer.result = negResult + negUseTLS + ";"
	}
	if err := c.write(appendFrame(nil, header{kind: typeNeg}, &answer, false)); err != nil {
		return false, err
	}
	if !ok {
		return false, &NegotiationError{c.cfg.Policy, policy}
	}
	return useTLS, nil
}

// readVersion reads the server's answer to the start-up pack.
func (c *Conn) readVersion(h header) error {
	if h.kind != typeVersion {
		return fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, typeVersion)
	}
	msg, err := readPart(c.r, h.msgLen)
	if err != nil {
		return err
	}
	if _, err := readPart(c.r, h.errLen); err != nil {
		return err
	}
	if err := Unpack(msg, &c.server); err != nil {
		return err
	}
	if c.server.Status < 0 {
		return &Error{Code: c.server.Status}
	}
	return nil
}

// startTLS puts TLS on the connection and announces the encryption parameters.
func (c *Conn) startTLS(ctx context.Context) error {
	if c.r.Buffered() > 0 {
		return fmt.Errorf("%w: data before TLS", ErrFrame)
	}
	t := tls.Client(c.nc, c.tlsConfig())
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	state := t.ConnectionState()
	c.nc, c.tls = t, &state
	e := c.cfg.Encryption.withDefaults()
	secret := make([]byte, e.KeySize)
	_, _ = rand.Read(secret) // never fails
	frames := appendHeader(nil, header{kind: e.Algorithm, msgLen: e.KeySize, errLen: e.SaltSize, bsLen: e.Rounds}, false)
	frames = appendRaw(frames, header{kind: typeSecret}, secret, false)
	return c.write(frames)
}

func (e Encryption) withDefaults() Encryption {
	if e.Algorithm == "" {
		e.Algorithm = "AES-256-CBC"
	}
	if e.KeySize <= 0 || e.KeySize > 1024 {
		e.KeySize = 32
	}
	if e.SaltSize <= 0 {
		e.SaltSize = 8
	}
	if e.Rounds <= 0 {
		e.Rounds = 16
	}
	return e
}

// tlsConfig returns the configuration for the wanted degree of verification.
func (c *Conn) tlsConfig() *tls.Config {
	t := c.cfg.TLS.Clone()
	if t == nil {
		t = &tls.Config{}
	}
	t.MinVersion = max(t.MinVersion, tls.VersionTLS12)
	if t.ServerName == "" {
		t.ServerName = host(c.cfg.Address)
	}
	switch c.cfg.Verify {
	case VerifyCert:
		roots := t.RootCAs
		t.InsecureSkipVerify = true
		t.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, roots) }
	case VerifyNone:
		t.InsecureSkipVerify = true
	}
	return t
}

func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return strings.TrimSuffix(h, ".")
}

// verifyChain checks everything but the name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(opts)
	return err
}
