package wire

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// authenticate answers the calls to log in, and refuses the others until that has
// happened. It returns false for a request that the caller has to serve.
func (s *Session) authenticate(r *Request) (handled bool, err error) {
	switch r.API {
	case APIAuthentication:
		return true, s.authPlugin(r)
	case APIAuthRequest:
		s.newChallenge()
		return true, s.Reply(0, &AuthRequestOut{Challenge: []byte(s.challenge)}, nil, deprecated)
	case APIAuthResponse:
		return true, s.authResponse(r)
	case APIPamAuthRequest:
		return true, s.pamOld(r)
	case APIGetMiscSvrInfo:
		return false, nil
	}
	if s.user == "" {
		return true, s.Reply(CodeNotAuthenticated, nil, nil)
	}
	return false, nil
}

// deprecated is the remark of 5.0.2 on the older calls.
var deprecated = ErrMsg{Status: CodeDeprecatedAuth, Text: "The legacy authentication plugin interface has been " +
	"deprecated. Please update client to not use legacy authentication plugins."}

func (s *Session) newChallenge() {
	var raw [challengeLen / 2]byte
	_, _ = rand.Read(raw[:]) // never fails
	s.challenge = hex.EncodeToString(raw[:])
}

// verify checks an answer to the challenge, which is good for one try. It returns 0 or
// an error code.
func (s *Session) verify(user, zone string, response []byte) int {
	challenge := s.challenge
	s.challenge = ""
	password, ok := s.cfg.Password(user, zone)
	switch {
	case !ok:
		return CodeUnknownUser
	case challenge == "" || subtle.ConstantTimeCompare(ChallengeResponse(challenge, password), response) == 0:
		return CodeWrongPassword
	}
	s.user = user
	return 0
}

// authResponse is the second half of the older native authentication.
func (s *Session) authResponse(r *Request) error {
	var in AuthResponseInp
	if err := r.Decode(&in); err != nil {
		return s.Reply(CodePacking, nil, nil)
	}
	user, zone, ok := strings.Cut(in.Username, "#")
	if !ok {
		zone = s.startup.ProxyZone
	}
	return s.Reply(s.verify(user, zone, in.Response), nil, nil)
}

// authStep is the JSON of a step that the server looks at.
type authStep struct {
	Scheme   string `json:"scheme"`
	Next     string `json:"next_operation"`
	User     string `json:"user_name"`
	Zone     string `json:"zone_name"`
	Digest   []byte `json:"digest"`
	Password string `json:"a_pw"`
	TTL      string `json:"a_ttl"`
}

// authPlugin runs one step of APIAuthentication. The answer repeats the request with
// the result added, as the real server does.
func (s *Session) authPlugin(r *Request) error {
	var in BinBytesBuf
	var step authStep
	answer := map[string]any{}
	if r.Decode(&in) != nil || in.JSON(&step) != nil || in.JSON(&answer) != nil {
		return s.Reply(CodePacking, nil, nil)
	}
	status := 0
	switch step.Scheme + " " + step.Next {
	case schemeNative + " " + authRequest:
		s.newChallenge()
		answer[authResult] = s.challenge
	case schemeNative + " " + authResponse:
		status = s.verify(step.User, step.Zone, step.Digest)
	case schemePAM + " " + authRequest:
		delete(answer, authPassword)
		ttl, _ := strconv.Atoi(step.TTL) // empty means 0
		answer[authResult], status = s.pam(step.User, step.Password, ttl)
	default:
		status = CodeInvalidInput
	}
	if status < 0 {
		return s.Reply(status, nil, nil)
	}
	return s.Reply(0, jsonAnswer(answer), nil)
}

// jsonAnswer packs JSON with the NUL that the real server appends.
func jsonAnswer(v any) *BinBytesBuf {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return &BinBytesBuf{Data: []byte("{}\x00")}
	}
	return &BinBytesBuf{Data: append(bytes.TrimRight(b.Bytes(), "\n"), 0)}
}

// pam checks a password that came over TLS.
func (s *Session) pam(user, password string, ttl int) (string, int) {
	if !s.tls {
		return "", CodeNotAllowed
	}
	if s.cfg.PAM == nil {
		return "", CodeUnknownAPI
	}
	made, err := s.cfg.PAM(user, password, ttl)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return "", refused.Code
	case err != nil:
		return "", CodePam
	}
	return made, 0
}

// pamOld is the call of servers before 4.3.
func (s *Session) pamOld(r *Request) error {
	var in PamAuthRequestInp
	if err := r.Decode(&in); err != nil {
		return s.Reply(CodePacking, nil, nil)
	}
	made, status := s.pam(in.User, in.Password, in.TTL)
	if status < 0 {
		return s.Reply(status, nil, nil)
	}
	return s.Reply(0, &PamAuthRequestOut{Password: made}, nil)
}
