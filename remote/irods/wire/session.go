package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ServerConfig says how a server treats its clients.
type ServerConfig struct {
	Release string // "rods5.0.2" if empty
	Policy  Policy
	TLS     *tls.Config // with a certificate; nil: no TLS, whatever the client says
	// Password returns the password of a user, false if there is no such user.
	Password func(user, zone string) (string, bool)
	// PAM checks a password and returns another one for native authentication; its
	// error should be an *Error. Nil: the scheme is refused.
	PAM func(user, password string, ttl int) (string, error)
	// Admit may refuse a client by returning an error code. Nil admits all.
	Admit  func(StartupPack) int
	Limits Limits
}

// ErrHeartbeat is returned by Accept when the client only wanted to know whether
// somebody is there. It was answered.
var ErrHeartbeat = errors.New("irods: heart-beat")

// Session is a connection of a server, made by Accept.
type Session struct {
	cfg       ServerConfig
	limits    Limits
	raw, nc   net.Conn
	r         *bufio.Reader
	startup   StartupPack
	tls       bool
	stop      func() bool
	challenge string
	user      string // who has logged in
	body      io.LimitedReader
	pending   bool // a request waits for its reply
	bye       bool // the client has said good-bye
}

// Accept runs the start-up dialogue on a new connection: start-up pack, negotiation,
// version, TLS. On error the connection is closed. The end of ctx closes it at any
// time. Authentication is part of Next.
func Accept(ctx context.Context, nc net.Conn, cfg ServerConfig) (*Session, error) {
	s := &Session{cfg: cfg, limits: cfg.Limits.withDefaults(), raw: nc, nc: nc, r: bufio.NewReaderSize(nc, readBuffer)}
	if s.cfg.Release == "" {
		s.cfg.Release = Release
	}
	s.stop = context.AfterFunc(ctx, func() { _ = nc.Close() })
	if err := s.start(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Startup returns what the client said first.
func (s *Session) Startup() StartupPack { return s.startup }

// TLS tells whether the connection uses TLS.
func (s *Session) TLS() bool { return s.tls }

// User returns the user who has logged in, "" before.
func (s *Session) User() string { return s.user }

// Close closes the connection. After the client's good-bye over TLS it ends TLS in
// order, for which it gives the client a second: some wait for that.
func (s *Session) Close() error {
	s.stop()
	if t, ok := s.nc.(*tls.Conn); ok && s.bye {
		_ = s.raw.SetDeadline(time.Now().Add(time.Second))
		_ = t.CloseWrite()
		_, _ = io.Copy(io.Discard, t)
	}
	return s.raw.Close()
}

func (s *Session) start(ctx context.Context) error {
	h, err := readHeader(s.r, s.limits)
	if err != nil {
		return err
	}
	switch h.kind {
	case typeHeartbeat:
		_, _ = io.WriteString(s.nc, typeHeartbeat)
		return ErrHeartbeat
	case typeConnect:
	default:
		return fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, typeConnect)
	}
	if err := s.readMessage(h, &s.startup); err != nil {
		return err
	}
	if s.startup.Protocol != 1 {
		return s.refuse(CodePacking)
	}
	if s.cfg.Admit != nil {
		if code := s.cfg.Admit(s.startup); code < 0 {
			return s.refuse(code)
		}
	}
	useTLS, err := s.negotiate()
	if err != nil {
		return err
	}
	if err := s.sendVersion(0); err != nil || !useTLS {
		return err
	}
	return s.startTLS(ctx)
}

// readMessage reads the parts of a message that is part of the start-up.
func (s *Session) readMessage(h header, m Message) error {
	msg, err := readPart(s.r, h.msgLen)
	if err != nil {
		return err
	}
	if _, err := readPart(s.r, h.errLen+h.bsLen); err != nil {
		return err
	}
	return unpackRequest(msg, m)
}

// refuse ends the start-up with an error code.
func (s *Session) refuse(code int) error {
	if err := s.sendVersion(code); err != nil {
		return err
	}
	return &Error{Code: code}
}

func (s *Session) sendVersion(status int) error {
	v := &Version{Status: status, ReleaseVersion: s.cfg.Release, APIVersion: apiVersion, Cookie: 400}
	_, err := s.nc.Write(appendFrame(nil, header{kind: typeVersion}, v, true))
	return err
}

// negotiate tells the server's policy if the client asked for it, and follows the
// client's answer unless it breaks the policy. A server that refuses TLS gets it all
// the same from a client that insists (measured on 5.0.2).
func (s *Session) negotiate() (useTLS bool, err error) {
	if !wantsNegotiation(s.startup.Option) {
		if s.cfg.Policy == PolicyRequire {
			return false, s.refuse(CodeInvalidInput)
		}
		return false, nil
	}
	offer := &csNeg{status: negSuccess, result: s.cfg.Policy.String()}
	if _, err := s.nc.Write(appendFrame(nil, header{kind: typeNeg}, offer, true)); err != nil {
		return false, err
	}
	h, err := readHeader(s.r, s.limits)
	if err != nil {
		return false, unexpected(err)
	}
	if h.kind != typeNeg {
		return false, fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, typeNeg)
	}
	var answer csNeg
	if err := s.readMessage(h, &answer); err != nil {
		return false, err
	}
	useTLS = negotiated(answer.result) == negUseTLS
	if answer.status != negSuccess || (s.cfg.Policy == PolicyRequire && !useTLS) || (useTLS && s.cfg.TLS == nil) {
		return false, s.refuse(CodeServerNegotiation)
	}
	return useTLS, nil
}

// startTLS puts TLS on the connection and reads the encryption parameters.
func (s *Session) startTLS(ctx context.Context) error {
	if s.r.Buffered() > 0 {
		return fmt.Errorf("%w: data before TLS", ErrFrame)
	}
	t := tls.Server(s.nc, s.cfg.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	s.nc, s.r, s.tls = t, bufio.NewReaderSize(t, readBuffer), true
	if _, err := readHeader(s.r, s.limits); err != nil { // algorithm and sizes
		return unexpected(err)
	}
	h, err := readHeader(s.r, s.limits)
	if err != nil {
		return unexpected(err)
	}
	if h.kind != typeSecret {
		return fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, typeSecret)
	}
	_, err = readPart(s.r, h.msgLen)
	return err
}

// Request is one call of a client. It is valid until the next call of Next.
type Request struct {
	API  int
	Size int       // of Body
	Body io.Reader // the byte stream; what is left of it is dropped
	msg  []byte
}

// Decode unpacks the request's message. Numbers and some strings may be missing, as
// with the real server. On error the answer is CodePacking.
func (r *Request) Decode(m Message) error { return unpackRequest(r.msg, m) }

// Next returns the next request. It answers requests to authenticate by itself, and
// refuses others before. io.EOF means that the client has said good-bye or hung up.
// Each request must be answered by Reply before Next is called again.
func (s *Session) Next() (*Request, error) {
	for {
		r, err := s.next()
		if err != nil {
			return nil, err
		}
		handled, err := s.authenticate(r)
		if err != nil {
			return nil, err
		}
		if !handled {
			return r, nil
		}
	}
}

func (s *Session) next() (*Request, error) {
	if s.pending {
		return nil, errors.New("irods: request without reply")
	}
	if _, err := io.Copy(io.Discard, &s.body); err != nil || s.body.N > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	h, err := readHeader(s.r, s.limits)
	switch {
	case err != nil:
		return nil, err
	case h.kind == typeDisconnect:
		s.bye = true
		return nil, io.EOF
	case h.kind != typeAPIReq:
		return nil, fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, typeAPIReq)
	}
	r := &Request{API: h.intInfo, Size: h.bsLen, Body: &s.body}
	if r.msg, err = readPart(s.r, h.msgLen); err != nil {
		return nil, err
	}
	if _, err = readPart(s.r, h.errLen); err != nil {
		return nil, err
	}
	s.body = io.LimitedReader{R: s.r, N: int64(h.bsLen)}
	s.pending = true
	return r, nil
}

// Reply answers the last request. out may be nil, body empty.
func (s *Session) Reply(status int, out Message, body []byte, remarks ...ErrMsg) error {
	s.pending = false
	var packed []byte
	if len(remarks) > 0 {
		packed = AppendLines(nil, (*RError)(&remarks))
	}
	h := header{kind: typeAPIReply, intInfo: status, errLen: len(packed), bsLen: len(body)}
	head := append(appendFrame(nil, h, out, true), packed...)
	if len(body) <= small {
		_, err := s.nc.Write(append(head, body...))
		return err
	}
	if _, err := s.nc.Write(head); err != nil {
		return err
	}
	_, err := s.nc.Write(body)
	return err
}

// ErrNoAnswer is returned by Progress when the client does not want more.
var ErrNoAnswer = errors.New("irods: client did not answer the progress message")

// Progress sends a progress message in the middle of a call on a collection and waits
// for the client's answer.
func (s *Session) Progress(stat CollOprStat) error {
	h := header{kind: typeAPIReply, intInfo: statusCollStat}
	if _, err := s.nc.Write(appendFrame(nil, h, &stat, true)); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(s.r, answer[:]); err != nil {
		return unexpected(err)
	}
	if binary.BigEndian.Uint32(answer[:]) != statusCollStatReply {
		return ErrNoAnswer
	}
	return nil
}
