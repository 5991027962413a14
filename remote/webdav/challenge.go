package webdav

import (
	"slices"
	"strings"
)

// challenge is one login scheme that a server offers (RFC 9110, 11.6.1).
type challenge struct {
	scheme string            // in lower case
	header string            // this challenge alone, as a WWW-Authenticate value
	params map[string]string // names in lower case, values without quotes
}

// stale tells whether the server only wants a newer nonce.
func (c challenge) stale() bool { return strings.EqualFold(c.params["stale"], "true") }

// pick chooses one of the offered schemes for a password: basic over TLS, digest
// without. It leaves out forms of digest that gowebdav does not compute rightly.
func pick(headers []string, tls bool) (challenge, bool) {
	var basic, digest challenge
	for _, h := range headers {
		for _, c := range splitChallenges(h) {
			switch {
			case c.scheme == "basic" && basic.scheme == "":
				basic = challenge{scheme: "basic", header: "Basic", params: c.params}
			case c.scheme == "digest" && digest.scheme == "":
				digest = c.digest()
			}
		}
	}
	if digest.scheme == "" || basic.scheme != "" && tls {
		return basic, basic.scheme != ""
	}
	return digest, true
}

// digest returns c written in the one way that gowebdav reads, the zero challenge if
// that is not possible: it knows only MD5 and qop=auth, and splits at every comma.
func (c challenge) digest() challenge {
	if a := c.params["algorithm"]; a != "" && !strings.EqualFold(a, "MD5") {
		return challenge{}
	}
	header := "Digest algorithm=MD5"
	for _, name := range []string{"realm", "nonce", "opaque"} {
		value, has := c.params[name]
		if strings.ContainsAny(value, `,"\`) {
			return challenge{}
		}
		if has {
			header += ", " + name + `="` + value + `"`
		}
	}
	if qop, has := c.params["qop"]; has {
		if !slices.Contains(strings.FieldsFunc(qop, func(r rune) bool { return r == ',' || r == ' ' }), "auth") {
			return challenge{}
		}
		header += `, qop="auth"`
	}
	c.header = header
	return c
}

// splitChallenges takes a header apart that may hold several challenges.
func splitChallenges(header string) []challenge {
	var all []challenge
	for _, part := range splitQuoted(header, ',') {
		part = strings.TrimSpace(part)
		word, rest, _ := strings.Cut(part, " ")
		if word == "" {
			continue
		}
		if !strings.Contains(word, "=") { // the name of a scheme
			all = append(all, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
			part = strings.TrimSpace(rest)
		}
		if name, value, ok := strings.Cut(part, "="); ok && len(all) > 0 {
			all[len(all)-1].params[strings.ToLower(strings.TrimSpace(name))] = unquote(strings.TrimSpace(value))
		}
	}
	return all
}

// unquote takes the quotes and escapes off a quoted string.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// splitQuoted splits at sep outside of quoted strings.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[min(start, len(s)):])
}
