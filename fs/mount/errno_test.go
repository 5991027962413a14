package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/remote"
)

// wantErrno is what programs see of each kind. It repeats the table on purpose: the
// numbers are an interface.
var wantErrno = map[remote.Kind]syscall.Errno{
	remote.Other: syscall.EIO, remote.NotExist: syscall.ENOENT, remote.Exist: syscall.EEXIST,
	remote.NotDir: syscall.ENOTDIR, remote.IsDir: syscall.EISDIR, remote.NotEmpty: syscall.ENOTEMPTY,
	remote.Permission: syscall.EACCES, remote.Auth: syscall.EACCES, remote.Conflict: syscall.ESTALE,
	remote.Changed: syscall.ESTALE, remote.Locked: syscall.EBUSY, remote.NoSpace: syscall.EDQUOT,
	remote.TooLarge: syscall.EFBIG, remote.NameTooLong: syscall.ENAMETOOLONG, remote.Invalid: syscall.EINVAL,
	remote.Unsupported: syscall.EOPNOTSUPP, remote.Unavailable: syscall.ETIMEDOUT, remote.Corrupt: syscall.EIO,
	remote.ReadOnly: syscall.EROFS, remote.CrossDevice: syscall.EXDEV, remote.BadHandle: syscall.EBADF,
	remote.NoXattr: syscall.ENODATA,
}

func TestErrnoOfKinds(t *testing.T) {
	for _, k := range remote.Kinds() {
		want, ok := wantErrno[k]
		if !ok {
			t.Errorf("no errno is expected of %v", k)
		}
		for _, err := range []error{
			&remote.Error{Op: "put", Path: "/a", Kind: k},
			fmt.Errorf("wrapped: %w", &remote.Error{Op: "put", Path: "/a", Kind: k, Err: http.ErrBodyReadAfterClose}),
			k,
		} {
			if got := judge(err, false).errno; got != want {
				t.Errorf("%v (%T): errno %v, want %v", k, err, got, want)
			}
		}
	}
	if len(verdicts) != len(remote.Kinds()) {
		t.Errorf("%d verdicts on %d kinds", len(verdicts), len(remote.Kinds()))
	}
}

func TestErrnoOfOthers(t *testing.T) {
	kind := func(k remote.Kind, cause error) error { return &remote.Error{Op: "x", Kind: k, Err: cause} }
	for _, tc := range []struct {
		name        string
		err         error
		interrupted bool
		want        syscall.Errno
	}{
		{"server's quota", kind(remote.NoSpace, errors.New("507")), false, syscall.EDQUOT},
		{"full local disk", kind(remote.NoSpace, fmt.Errorf("staging: %w", syscall.ENOSPC)), false, syscall.ENOSPC},
		{"change of owner", kind(remote.Permission, syscall.EPERM), false, syscall.EPERM},
		{"interrupt", context.Canceled, true, syscall.EINTR},
		{"interrupt, wrapped", kind(remote.Unavailable, context.Canceled), true, syscall.EINTR},
		{"cancelled by us", context.Canceled, false, syscall.EIO},
		{"cancelled by us, wrapped", kind(remote.Unavailable, context.Canceled), false, syscall.ETIMEDOUT},
		{"deadline", context.DeadlineExceeded, false, syscall.ETIMEDOUT},
		{"error after an ignored interrupt", kind(remote.NotExist, nil), true, syscall.ENOENT},
		{"connection refused", kind(remote.Unavailable, syscall.ECONNREFUSED), false, syscall.ETIMEDOUT},
		{"no attribute", remote.NoXattr, false, syscall.ENODATA},
		{"our own", syscall.EPERM, false, syscall.EPERM},
		{"errno deep inside", fmt.Errorf("read: %w", syscall.ENOTTY), false, syscall.EIO},
		{"stale node", errStale, false, syscall.ESTALE},
		{"unknown", errors.New("?"), false, syscall.EIO},
	} {
		if got := judge(tc.err, tc.interrupted).errno; got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestOneLogLine(t *testing.T) {
	var log logBuffer
	r := &raw{log: log.logger()}
	for _, tc := range []struct {
		err   error
		level slog.Level
	}{
		{remote.NotExist, slog.LevelDebug}, {remote.NoXattr, slog.LevelDebug}, {errStale, slog.LevelDebug},
		{remote.Unavailable, slog.LevelWarn}, {remote.Corrupt, slog.LevelWarn}, {remote.Conflict, slog.LevelWarn},
	} {
		log.text.Reset()
		if st := r.status("read", "/a b", tc.err, false); st == fuse.OK {
			t.Errorf("%v is no failure", tc.err)
		}
		text := log.String()
		if strings.Count(text, "\n") != 1 || !strings.Contains(text, "level="+tc.level.String()) ||
			!strings.Contains(text, "op=read") || !strings.Contains(text, `path="/a b"`) {
			t.Errorf("%v at %v: logged %q", tc.err, tc.level, text)
		}
	}
	log.text.Reset()
	if st := r.status("read", "/a", nil, true); st != fuse.OK || log.String() != "" {
		t.Errorf("success: %v, logged %q", st, log.String())
	}
}
