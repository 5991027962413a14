package webdav

import (
	"strings"
	"testing"
	"time"
)

func TestAttrForm(t *testing.T) {
	for want, a := range map[string]attr{
		"":                      {},
		"1 m=644":               {mode: 0o644, hasMode: true},
		"1 m=0":                 {hasMode: true},
		"1 m=7777 l=a%20b%2F..": {mode: 0o7777, hasMode: true, link: "a b/.."},
		"1 t=1500000000.000000001 s=13 e=3ff-66%25": {mtime: time.Unix(1500000000, 1), tag: "3ff-66%", size: 13},
		"1 t=-2.250000000 s=0":                      {mtime: time.Unix(-2, 250000000)},
		"1 l=%C3%BC%0A%3C%26=":                      {link: "ü\n<&="},
	} {
		if got := a.encode(); got != want {
			t.Errorf("%+v is written %q, want %q", a, got, want)
		}
		if want == "" {
			continue
		}
		got, err := parseAttr(want)
		if err != nil || !got.mtime.Equal(a.mtime) {
			t.Errorf("%q is read %+v, %v", want, got, err)
		}
		got.mtime = a.mtime
		if got != a {
			t.Errorf("%q is read %+v, want %+v", want, got, a)
		}
	}
}

func TestAttrRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "2 m=644", "m=644", "1 m=888", "1 m=10000", "1 m=", "1 t=1", "1 t=1.5", "1 t=x.000000000",
		"1 t=1.-00000001", "1 t=99999999999999.000000000", "1 s=-1", "1 e=%22", "1 e=a%20b", "1 e=", "1 l=", "1 l=%00", "1 l=%zz", "1 plain",
		"1 l=" + strings.Repeat("x", 4096), "1 x=" + strings.Repeat("x", 20_000),
	} {
		if a, err := parseAttr(text); err == nil {
			t.Errorf("%.60q is read as %+v", text, a)
		}
	}
	if a, err := parseAttr("1 future=x m=600"); err != nil || a.mode != 0o600 {
		t.Errorf("an unknown field spoils the others: %+v, %v", a, err)
	}
}

func FuzzAttr(f *testing.F) {
	for _, s := range []string{"1 m=644", "1 t=1500000000.000000001 s=13 e=3ff-66", "1 l=a%20b", "1 x= m=7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAttr(s)
		if err != nil {
			return
		}
		if len(a.link) > maxTarget || strings.IndexByte(a.link, 0) >= 0 || a.mode > 0o7777 || a.size < 0 {
			t.Errorf("%q gives %+v", s, a)
		}
		text := a.encode()
		if text == "" {
			return
		}
		again, err := parseAttr(text)
		if err != nil || again.encode() != text || xmlText(text) != strings.ReplaceAll(text, "&", "&amp;") {
			t.Errorf("%q is written %q and read %+v, %v", s, text, again, err)
		}
	})
}
