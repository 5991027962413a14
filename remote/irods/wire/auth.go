package wire

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	challengeLen = 64
	// MaxPassword is the length in bytes of the longest password that native
	// authentication looks at.
	MaxPassword = 50
	// Anonymous is the user that needs no password.
	Anonymous = "anonymous"
)

// ErrPasswordLength is returned for a password longer than MaxPassword: native
// authentication would compare its beginning only.
var ErrPasswordLength = errors.New("irods: password is longer than 50 bytes")

// credentialError is a failure to get the password.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

// ChallengeResponse returns the 16 bytes that prove knowledge of the password: the
// MD5 of 64 bytes of challenge and 50 bytes of password, each padded with NUL. Zero
// bytes of the result become 1.
func ChallengeResponse(challenge, password string) []byte {
	var buf [challengeLen + MaxPassword]byte
	copy(buf[:challengeLen], challenge)
	copy(buf[challengeLen:], password)
	sum := md5.Sum(buf[:])
	for i := range sum {
		if sum[i] == 0 {
			sum[i] = 1
		}
	}
	return sum[:]
}

// Names in the JSON of APIAuthentication.
const (
	authNext     = "next_operation"
	authRequest  = "auth_agent_auth_request"
	authResponse = "auth_agent_auth_response"
	authScheme   = "scheme"
	authUser     = "user_name"
	authZone     = "zone_name"
	authResult   = "request_result"
	authDigest   = "digest"
	authTTL      = "a_ttl"
	authPassword = "a_pw"
	authPrompt   = "force_password_prompt"

	schemeNative = "native"
	schemePAM    = "pam_password"
)

// Before tells whether the version is older than major.minor.patch. A version that
// cannot be read is not.
func (m *Version) Before(major, minor, patch int) bool {
	parts := strings.Split(strings.TrimPrefix(m.ReleaseVersion, "rods"), ".")
	for i, want := range []int{major, minor, patch} {
		if i >= len(parts) {
			return true
		}
		have, err := strconv.Atoi(parts[i])
		if err != nil {
			return false
		}
		if have != want {
			return have < want
		}
	}
	return false
}

// authenticate logs in. Servers since 4.3 have one call for all schemes.
func (c *Conn) authenticate(ctx context.Context) error {
	if c.cfg.Scheme == SchemePAM && c.tls == nil {
		return ErrNoTLS
	}
	password, err := c.password(ctx)
	if err != nil {
		return &credentialError{err}
	}
	old := c.server.Before(4, 3, 0)
	if c.cfg.Scheme == SchemePAM {
		password, err = c.pam(ctx, password, old)
		if err != nil {
			return err
		}
	}
	if len(password) > MaxPassword {
		return &credentialError{ErrPasswordLength}
	}
	if old {
		return c.nativeOld(ctx, password)
	}
	return c.native(ctx, password)
}

func (c *Conn) password(ctx context.Context) (string, error) {
	if c.proxyUser() == Anonymous || c.cfg.Password == nil {
		return "", nil
	}
	return c.cfg.Password(ctx)
}

// native runs the scheme of that name. The password itself is in no message.
func (c *Conn) native(ctx context.Context, password string) error {
	request := map[string]any{
		authScheme: schemeNative, authNext: authRequest, authTTL: "0", authPrompt: false,
		authUser: c.proxyUser(), authZone: c.proxyZone(),
	}
	challenge, err := c.authStep(ctx, request)
	if err != nil {
		return err
	}
	request[authNext] = authResponse
	request[authResult] = challenge
	request[authDigest] = ChallengeResponse(challenge, password) // JSON makes it base64
	_, err = c.authStep(ctx, request)
	return err
}

// authStep sends one step and returns the result of the answer.
func (c *Conn) authStep(ctx context.Context, request map[string]any) (string, error) {
	in, err := NewJSON(request)
	if err != nil {
		return "", err
	}
	var out BinBytesBuf
	if _, err := c.call(ctx, &Call{API: APIAuthentication, In: in, Out: &out}); err != nil {
		return "", err
	}
	var answer struct {
		Result string `json:"request_result"`
	}
	if err := out.JSON(&answer); err != nil {
		return "", fmt.Errorf("authentication: %w", err)
	}
	return answer.Result, nil
}

// nativeOld runs the same scheme by the calls of servers before 4.3.
func (c *Conn) nativeOld(ctx context.Context, password string) error {
	var out AuthRequestOut
	if _, err := c.call(ctx, &Call{API: APIAuthRequest, Out: &out}); err != nil {
		return err
	}
	in := &AuthResponseInp{
		Response: ChallengeResponse(string(out.Challenge), password),
		Username: c.proxyUser() + "#" + c.proxyZone(),
	}
	_, err := c.call(ctx, &Call{API: APIAuthResponse, In: in})
	return err
}

// pam sends the password over TLS and returns the one that the server has made.
func (c *Conn) pam(ctx context.Context, password string, old bool) (string, error) {
	if old {
		var out PamAuthRequestOut
		in := &PamAuthRequestInp{User: c.proxyUser(), Password: password, TTL: c.cfg.PasswordTTL}
		_, err := c.call(ctx, &Call{API: APIPamAuthRequest, In: in, Out: &out})
		return out.Password, err
	}
	return c.authStep(ctx, map[string]any{
		authScheme: schemePAM, authNext: authRequest, authTTL: strconv.Itoa(c.cfg.PasswordTTL),
		authPrompt: false, authUser: c.proxyUser(), authZone: c.proxyZone(), authPassword: password,
	})
}
