package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestCheckPath(t *testing.T) {
	for _, path := range []string{"/", "/a", "/a/b", "/...", "/..a/.b", "/a b/\n", "/\xff", "/" + strings.Repeat("x", remote.MaxPath-1)} {
		if err := remote.CheckPath("test", path); err != nil {
			t.Errorf("%.20q: %v", path, err)
		}
	}
	for _, path := range []string{"", "a", "a/b", "//", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a/.", "/a\x00"} {
		wantKind(t, remote.CheckPath("test", path), remote.Invalid)
	}
	wantKind(t, remote.CheckPath("test", "/"+strings.Repeat("x", remote.MaxPath)), remote.NameTooLong)
}

func TestSplitAndJoin(t *testing.T) {
	for path, want := range map[string][2]string{"/": {"/", ""}, "/a": {"/", "a"}, "/a/b": {"/a", "b"}, "/a/b/c d": {"/a/b", "c d"}} {
		dir, name := remote.Split(path)
		if dir != want[0] || name != want[1] {
			t.Errorf("split %q: %q, %q", path, dir, name)
		}
		if name != "" && remote.Join(dir, name) != path {
			t.Errorf("join %q, %q: %q", dir, name, remote.Join(dir, name))
		}
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{
		{"/", "/", true}, {"/a", "/", true}, {"/a", "/a", true}, {"/a/b", "/a", true}, {"/a/b/c", "/a", true},
		{"/", "/a", false}, {"/ab", "/a", false}, {"/a", "/a/b", false}, {"/b/a", "/a", false},
	} {
		if got := remote.Within(c.path, c.dir); got != c.want {
			t.Errorf("within(%q, %q) = %v", c.path, c.dir, got)
		}
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range remote.Kinds() {
		if kind.String() == "" || seen[kind.String()] || kind.Error() != kind.String() {
			t.Errorf("the text of kind %d is %q", kind, kind)
		}
		seen[kind.String()] = true
		err := fmt.Errorf("wrapped: %w", &remote.Error{Op: "stat", Path: "/a", Kind: kind})
		if !errors.Is(err, kind) || remote.KindOf(err) != kind {
			t.Errorf("%v is not recognised in %v", kind, err)
		}
		if remote.KindOf(fmt.Errorf("bare: %w", kind)) != kind {
			t.Errorf("a bare %v is not recognised", kind)
		}
		if errors.Is(err, remote.Kind(200)) {
			t.Errorf("%v is taken for another", err)
		}
	}
	if remote.KindOf(io.ErrUnexpectedEOF) != remote.Other || remote.Kind(200).String() != remote.Other.String() {
		t.Error("what is unknown is not Other")
	}
}

func TestErrorText(t *testing.T) {
	inner := &remote.Error{Op: "read", Path: "/a", Kind: remote.Corrupt, Err: io.ErrUnexpectedEOF}
	for want, err := range map[string]error{
		"stat /a: does not exist":                     &remote.Error{Op: "stat", Path: "/a", Kind: remote.NotExist},
		"usage: not supported":                        &remote.Error{Op: "usage", Kind: remote.Unsupported},
		"read /a: corrupt: unexpected EOF":            inner,
		"open /a: read /a: corrupt: unexpected EOF":   &remote.Error{Op: "open", Path: "/a", Kind: remote.Unavailable, Err: inner},
		"put /a: unexpected EOF":                      &remote.Error{Op: "put", Path: "/a", Err: io.ErrUnexpectedEOF},
		"put /a: not available: no progress for 1m0s": &remote.Error{Op: "put", Path: "/a", Kind: remote.Unavailable, Err: &remote.StallError{Timeout: 60e9}},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestE(t *testing.T) {
	if err := remote.E("stat", "/a", remote.Unavailable, context.Canceled); err != context.Canceled {
		t.Errorf("an ended context became %v", err)
	}
	inner := &remote.Error{Op: "read", Path: "/b", Kind: remote.Corrupt}
	if err := remote.E("stat", "/a", remote.Unavailable, inner); err != inner {
		t.Errorf("an *Error became %v", err)
	}
	e := wantKind(t, remote.E("stat", "/a", remote.Unavailable, io.ErrUnexpectedEOF), remote.Unavailable)
	if e.Op != "stat" || e.Path != "/a" || !errors.Is(e, io.ErrUnexpectedEOF) {
		t.Errorf("a plain error became %+v", e)
	}
}

func TestRetryable(t *testing.T) {
	for _, err := range []error{nil, context.Canceled, fmt.Errorf("x: %w", context.DeadlineExceeded), io.EOF, remote.Auth} {
		if remote.Retryable(err) {
			t.Errorf("%v is not worth a retry", err)
		}
	}
	for _, err := range []error{remote.Unavailable, &remote.Error{Kind: remote.Locked}, fmt.Errorf("x: %w", remote.Corrupt)} {
		if !remote.Retryable(err) {
			t.Errorf("%v is worth a retry", err)
		}
	}
}

func TestContextErr(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := remote.ContextErr(ctx); err != nil {
		t.Errorf("a living context: %v", err)
	}
	cancel(errors.New("some reason"))
	if err := remote.ContextErr(ctx); err != context.Canceled {
		t.Errorf("a plain cause: %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	mine := &remote.Error{Kind: remote.BadHandle}
	cancel(mine)
	if err := remote.ContextErr(ctx); err != mine {
		t.Errorf("an *Error as cause: %v", err)
	}
}

func TestSecretHides(t *testing.T) {
	const text = "pass word"
	s := remote.NewSecret(text)
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, format+"\n", s)
		fmt.Fprintf(&out, format+"\n", struct{ S remote.Secret }{s})
		fmt.Fprintf(&out, format+"\n", &s)
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": s, "m": map[remote.Secret]int{s: 1}}); err != nil {
		t.Error(err)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s)
	plain := out.String()
	if strings.Contains(plain, "pass") || strings.Contains(plain, fmt.Sprintf("%x", text)) {
		t.Errorf("the secret shows: %s", plain)
	}
	if strings.Count(plain, "[secret]") < 20 || s.String() != "[secret]" {
		t.Errorf("the secret is not marked: %s", plain)
	}
	if s.Reveal() != text || s.IsZero() || !(remote.Secret{}).IsZero() {
		t.Error("the secret is lost")
	}
}

func TestNewHash(t *testing.T) {
	for algorithm, want := range map[string]string{
		"adler32": "00790079", "md5": "9dd4e461268c8034f5c8564e155c67a6", "sha1": "11f6ad8ec52a2984abaafd7c3b516503785c2072",
		"sha256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
		"sha512": "a4abd4448c49562d828115d13a1fccea927f52b4d5459297f8b43e42da89238bc13626e43dcb38ddb082488927ec904fb42057443983e88585179d50551afe62",
	} {
		h := remote.NewHash(algorithm)
		h.Write([]byte("x"))
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
			t.Errorf("%s of x: %s, want %s", algorithm, got, want)
		}
	}
	if remote.NewHash("crc9") != nil || remote.NewHash("") != nil {
		t.Error("an unknown algorithm has a hash")
	}
}

func TestAccess(t *testing.T) {
	known := remote.AccessKnown | remote.AccessRead
	if !known.Can(remote.AccessRead) || known.Can(remote.AccessRead|remote.AccessWrite) || !remote.Access(0).Can(remote.AccessWrite) {
		t.Error("access is not what was granted")
	}
}

// TestAsFindsOutermost wants the decorated view of an ability.
func TestAsFindsOutermost(t *testing.T) {
	base := memory.New(memory.Options{})
	outer := remote.Limit(remote.Observe(base, nil), 1)
	if u, ok := remote.As[remote.Usager](outer); !ok || u != outer.(remote.Usager) {
		t.Errorf("%T, %v", u, ok)
	}
	if u, ok := remote.As[remote.Usager](base); !ok || u != remote.Usager(base) {
		t.Errorf("%T, %v", u, ok)
	}
}
