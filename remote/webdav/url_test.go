package webdav

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct{ in, want, user string }{
		{"davs://alice@cloud.example.org/remote.php/dav/files/alice", "https://cloud.example.org/remote.php/dav/files/alice", "alice"},
		{"dav://localhost:8080", "http://localhost:8080", ""},
		{"http://localhost:8080/", "http://localhost:8080", ""},
		{"https://Host.Example/a//b/", "https://host.example/a/b", ""},
		{"davs://a%40b.org@h/x", "https://h/x", "a@b.org"},
		{"davs://h/with%20space/%C3%A4%23%3F%25", "https://h/with%20space/%C3%A4%23%3F%25", ""},
		{"davs://[::1]:8443/x", "https://[::1]:8443/x", ""},
		{"DAVS://h/x", "https://h/x", ""},
		{"davs://h/dav/spaces/a$b!c", "https://h/dav/spaces/a$b%21c", ""},
	} {
		u, user, err := ParseURL(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		want, err := url.Parse(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if u.Scheme != want.Scheme || u.Host != want.Host || u.Path != want.Path || user != c.user || u.User != nil {
			t.Errorf("%s: got %v user %q, want %s user %q", c.in, u, user, c.want, c.user)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for in, remedy := range map[string]string{
		"":                            "davs://",
		"cloud.example.org/x":         "davs://",
		"/local/path":                 "davs://",
		"ftp://h/x":                   "davs://",
		"irods://h/x":                 "davs://",
		"davs:///x":                   "host",
		"davs://":                     "host",
		"davs:opaque":                 "host",
		"davs://h:/x":                 "number",
		"davs://h:0/x":                "65535",
		"davs://h:70000/x":            "65535",
		"davs://h/x?y=z":              "%3F",
		"davs://h/x#y":                "%23",
		"davs://h/x?":                 "%3F",
		"davs://h/a/../b":             "..",
		"davs://h/a%2Fb":              "%2F",
		"davs://h/a%00b":              "NUL",
		"davs://h/a%zz":               "hex",
		"davs://h y/x":                "host",
		"davs://[::1%25eth0]/x":       "IPv6",
		"davs://[zz]/x":               "davs://",
		"davs://müller.example/x":     "xn--",
		"davs://h%41/x":               "host",
		"davs://a,b/x":                "host",
		"davs://user:hunter2@h/x":     "file",
		"davs://user:hunter2@h/%zz":   "hex",
		"davs://user:hunter2@h:y/x":   "davs://",
		"://user:hunter2@h/":          "davs://",
		"davs://user:hunter2%zz@h/":   "hex",
		"davs://u%3Ahunter2@h/":       "colon",
		"davs://h/" + longPath():      "long",
		"davs://user:hun ter2@h/x":    "davs://",
		"davs://user:hunter2/x@h/y":   "davs://",
		"\x00davs://user:hunter2@h/x": "davs://",
	} {
		u, _, err := ParseURL(in)
		if err == nil {
			t.Errorf("%q: accepted as %v", in, u)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, remedy) || strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q: error %q does not say %q in one line", in, text, remedy)
		}
		if strings.Contains(text, "hun") {
			t.Errorf("%q: error %q shows the password", in, text)
		}
	}
}

func longPath() string { return strings.Repeat("abcdefgh/", 600) }

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "a.localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"example.org": false, "10.0.0.1": false, "localhost.example.org": false, "0.0.0.0": false, "": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("loopback(%q) = %v", host, got)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"davs://alice@host/remote.php/dav/files/alice", "dav://localhost:1/", "davs://u:p@h/%zz",
		"http://[::1%25eth0]/x", "davs://h/a//b/../c", "davs://h/%2e%2e/", "davs://h/?#",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, user, err := ParseURL(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error of %q has several lines: %q", s, err)
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("%q gives %#v", s, u)
		}
		for name := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
			if name == "." || name == ".." || name == "" && u.Path != "" {
				t.Errorf("%q gives the path %q", s, u.Path)
			}
		}
		again, _, err := ParseURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q gives %v, which gives %v, %v", s, u, again, err)
		}
		_ = user
	})
}
