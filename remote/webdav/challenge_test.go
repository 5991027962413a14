package webdav

import (
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	const nonce = `nonce="n=="`
	for _, c := range []struct {
		name    string
		headers []string
		tls     bool
		want    string // header of the choice, "" for none
	}{
		{"basic", []string{`Basic realm="a"`}, true, "Basic"},
		{"odd case", []string{`bASIC REALM=a`}, true, "Basic"},
		{"both in two", []string{`Bearer realm="x", charset="UTF-8"`, `Basic realm="x"`}, true, "Basic"},
		{"both in one", []string{`Bearer realm="x", charset="UTF-8", Basic realm="y"`}, true, "Basic"},
		{"a scheme in a realm", []string{`Negotiate, NTLM, X realm="Basic, or Digest"`}, true, ""},
		{"digest without TLS", []string{`Basic realm="x"`, `Digest realm="x", ` + nonce}, false, `Digest algorithm=MD5, realm="x", nonce="n=="`},
		{"basic with TLS", []string{`Digest realm="x", ` + nonce, `Basic realm="x"`}, true, "Basic"},
		{"a choice of qop", []string{`Digest realm="x", qop="auth-int, auth", ` + nonce + `, opaque="o"`}, false, `Digest algorithm=MD5, realm="x", nonce="n==", opaque="o", qop="auth"`},
		{"only auth-int", []string{`Digest realm="x", qop="auth-int", ` + nonce}, false, ""},
		{"SHA-256", []string{`Digest realm="x", algorithm=SHA-256, ` + nonce}, false, ""},
		{"SHA-256 and MD5", []string{`Digest realm="x", algorithm=SHA-256, ` + nonce, `Digest realm="x", algorithm="MD5", ` + nonce}, false, `Digest algorithm=MD5, realm="x", nonce="n=="`},
		{"a comma in the realm", []string{`Digest realm="x,y", ` + nonce, `Basic realm="x"`}, false, "Basic"},
		{"nothing", nil, true, ""},
		{"junk", []string{`=,,"`, `"`, ` `, `\`}, true, ""},
	} {
		got, ok := pick(c.headers, c.tls)
		if got.header != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", c.name, got.header, ok, c.want)
		}
	}
	got, _ := pick([]string{`Digest realm="x", stale=TRUE, ` + nonce}, false)
	if !got.stale() {
		t.Error("a stale nonce was not seen")
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="x", charset="UTF-8", Basic realm="y"`)
	f.Add(`Digest realm="x\"", nonce="`)
	f.Fuzz(func(t *testing.T, h string) {
		for _, c := range splitChallenges(h) {
			if c.scheme != strings.ToLower(c.scheme) || strings.Contains(c.scheme, "=") {
				t.Errorf("%q gives the scheme %q", h, c.scheme)
			}
		}
		if c, ok := pick([]string{h}, false); ok && strings.ContainsAny(c.header, "\r\n") && !strings.ContainsAny(h, "\r\n") {
			t.Errorf("%q gives %q", h, c.header)
		}
	})
}
