package irods

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	cases := []struct {
		text string
		want URL
	}{
		{"irods://alice@Data.Example.org/tempZone/home/alice", URL{"data.example.org", 1247, "alice", "", "/tempZone/home/alice"}},
		{"irods://alice@h:1300/z/a%20b%25%23%3F//c/", URL{"h", 1300, "alice", "", "/z/a b%#?/c"}},
		{"irods://alice%23homeZone@h/otherZone/home/alice%23homeZone", URL{"h", 1247, "alice", "homeZone", "/otherZone/home/alice#homeZone"}},
		{"irods://ada@uni.example@h/z", URL{"h", 1247, "ada@uni.example", "", "/z"}},
		{"irods://a@[2001:DB8::1]:1248/z/%C3%A9%0A", URL{"2001:db8::1", 1248, "a", "", "/z/é\n"}},
		{"irods://a@[::1]/z", URL{"::1", 1247, "a", "", "/z"}},
		{"irods://h", URL{"h", 1247, "", "", ""}},
		{"irods:", URL{}}, {"irods:/", URL{}}, {"irods://", URL{}}, {"irods:///", URL{}},
		{"irods:///z/c/", URL{Root: "/z/c"}}, {"irods:/z/c", URL{Root: "/z/c"}},
	}
	for _, c := range cases {
		got, err := ParseURL(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.text, got, err, c.want)
		}
		if again, err := ParseURL(got.String()); err != nil || again != got {
			t.Errorf("%s: %s reads back as %+v, %v", c.text, got, again, err)
		}
	}
}

func TestRefusedURLs(t *testing.T) {
	for text, want := range map[string]string{
		"irods://alice:hunter2@h/z":          "the URL holds a password; take it out",
		"irods://alice:@h/z":                 "the URL holds a password",
		"irods://alice%3Ahunter2@h/z":        "holds a colon",
		"irods://alice:hunter2@h/%zz":        "cannot read the URL",
		"irods://alice:hunter2/x@h/z":        "cannot read the URL",
		"irods://alice@h/%zz":                "a % that is not followed by two hex digits",
		"irods://alice#zone@h/z":             "query or fragment (? or #)",
		"irods://alice@h/z?x":                "query or fragment",
		"irods://alice@h/z#":                 "query or fragment",
		"irods://alice@/z":                   "the URL names no host",
		"irods://:1247/z":                    "the URL names no host",
		"irods://@h/z":                       "is no user",
		"irods://%23zone@h/z":                "is no user",
		"irods://alice%23@h/z":               "is no user",
		"irods://alice%23a%23b@h/z":          "no user has",
		"irods://al%2Fice@h/z":               "no user has",
		"irods://al%0Aice@h/z":               "no user has",
		"irods://al%ffice@h/z":               "no user has",
		"irods://alice@h:/z":                 "a colon but no port",
		"irods://alice@h:0/z":                "is no port",
		"irods://alice@h:65536/z":            "is no port",
		"irods://alice@h:x/z":                "cannot read the URL",
		"irods://alice@[::1%25eth0]/z":       "not an IPv6 address",
		"irods://alice@[::x]/z":              "cannot read the URL",
		"irods://alice@h%C3%A9/z":            "xn--",
		"irods://alice@h/z/../y":             "holds . or ..",
		"irods://alice@h/./z":                "holds . or ..",
		"irods://alice@h/z%2Fy":              "%2F; no name can hold a slash",
		"irods://alice@h/z/%00":              "NUL",
		"irods://alice@h/z/%ff":              "not UTF-8",
		"irods:zone/coll":                    "no slashes after irods:",
		"davs://alice@h/z":                   `the scheme "davs" is not supported; use irods://`,
		"irods://alice@h/" + long("x", 5000): "too long",
	} {
		u, err := ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%.60s: %+v, %v; want %q", text, u, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.60s: the error shows the password", text)
		}
	}
}

func long(s string, n int) string { return strings.Repeat(s, n) }

func TestSplitUserAndZoneOf(t *testing.T) {
	for text, want := range map[string][2]string{"alice": {"alice", ""}, "alice#z": {"alice", "z"}, "a.b@c": {"a.b@c", ""}} {
		if name, zone, err := SplitUser(text); err != nil || name != want[0] || zone != want[1] || FullUser(name, zone) != text {
			t.Errorf("%s: %q, %q, %v", text, name, zone, err)
		}
	}
	for path, want := range map[string]string{"/z/home/a": "z", "/z": "z", "/": "", "": ""} {
		if got := ZoneOf(path); got != want {
			t.Errorf("%q lies in %q, want %q", path, got, want)
		}
	}
}

// FuzzParseURL checks that what is accepted is clean and reads back as it is, and that
// errors are one line.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"irods://a%23b@h:1/z/c%20", "irods:", "irods://[::1]/z", "irods:////x//y", "irods://a@b@c/%e2%82%ac"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("%q: %q", text, err)
			}
			return
		}
		if u.Root != "" && (u.Root[0] != '/' || strings.HasSuffix(u.Root, "/") || strings.Contains(u.Root, "//")) {
			t.Errorf("%q: root %q", text, u.Root)
		}
		if again, err := ParseURL(u.String()); err != nil || again != u {
			t.Errorf("%q: %s reads back as %+v, %v", text, u, again, err)
		}
	})
}
