package mount

import (
	"context"
	"errors"
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/remote"
)

// verdict is what becomes of a kind of error: the errno, and the level of its record
// in the log. What programs provoke and expect in the normal course of things is
// for debugging only.
type verdict struct {
	errno syscall.Errno
	level slog.Level
}

// verdicts is the table from kinds to errnos, the only one in the program.
//
// Conflict and Changed are ESTALE: the object that was meant is no longer what the
// name stands for. For calls on a path the kernel then looks the name up again and
// repeats the call. Unavailable is ETIMEDOUT whatever the cause, because it comes
// only after retries have used up their time; it tells programs and people "not now",
// while EIO says "damaged". NoSpace is EDQUOT for the server's space and ENOSPC for
// the local disk's (see judge).
var verdicts = [...]verdict{
	remote.Other:       {syscall.EIO, slog.LevelWarn},
	remote.NotExist:    {syscall.ENOENT, slog.LevelDebug},
	remote.Exist:       {syscall.EEXIST, slog.LevelDebug},
	remote.NotDir:      {syscall.ENOTDIR, slog.LevelDebug},
	remote.IsDir:       {syscall.EISDIR, slog.LevelDebug},
	remote.NotEmpty:    {syscall.ENOTEMPTY, slog.LevelDebug},
	remote.Permission:  {syscall.EACCES, slog.LevelWarn},
	remote.Auth:        {syscall.EACCES, slog.LevelWarn},
	remote.Conflict:    {syscall.ESTALE, slog.LevelWarn},
	remote.Changed:     {syscall.ESTALE, slog.LevelWarn},
	remote.Locked:      {syscall.EBUSY, slog.LevelWarn},
	remote.NoSpace:     {syscall.EDQUOT, slog.LevelWarn},
	remote.TooLarge:    {syscall.EFBIG, slog.LevelWarn},
	remote.NameTooLong: {syscall.ENAMETOOLONG, slog.LevelDebug},
	remote.Invalid:     {syscall.EINVAL, slog.LevelDebug},
	remote.Unsupported: {syscall.EOPNOTSUPP, slog.LevelDebug},
	remote.Unavailable: {syscall.ETIMEDOUT, slog.LevelWarn},
	remote.Corrupt:     {syscall.EIO, slog.LevelWarn},
	remote.ReadOnly:    {syscall.EROFS, slog.LevelDebug},
	remote.CrossDevice: {syscall.EXDEV, slog.LevelDebug},
	remote.BadHandle:   {syscall.EBADF, slog.LevelWarn},
	remote.NoXattr:     {syscall.ENODATA, slog.LevelDebug},
}

// judge finds the verdict on an error that is not nil. interrupted tells that the
// caller got a signal: only then is a cancelled context EINTR, which many programs
// answer with trying again at once.
func judge(err error, interrupted bool) verdict {
	if errno, ok := err.(syscall.Errno); ok { // ours, not one deep in a chain
		return verdict{errno, slog.LevelDebug}
	}
	switch {
	case interrupted && errors.Is(err, context.Canceled):
		return verdict{syscall.EINTR, slog.LevelDebug}
	case err == errStale:
		return verdict{syscall.ESTALE, slog.LevelDebug}
	}
	var known *remote.Error
	if !errors.As(err, &known) && errors.Is(err, context.DeadlineExceeded) {
		return verdicts[remote.Unavailable]
	}
	kind := remote.KindOf(err)
	v := verdicts[kind]
	switch {
	case kind == remote.NoSpace && errors.Is(err, syscall.ENOSPC):
		v.errno = syscall.ENOSPC // the local disk said so; servers answer with a status
	case kind == remote.Permission && errors.Is(err, syscall.EPERM):
		v = verdict{syscall.EPERM, slog.LevelDebug} // forbidden by rule, whoever asks
	}
	return v
}

// status turns the outcome of an operation into the answer to the kernel and
// records a failure: the one place that does.
func (r *raw) status(op, path string, err error, interrupted bool) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	v := judge(err, interrupted)
	r.log.Log(context.Background(), v.level, "failed", "op", op, "path", path, "errno", v.errno.Error(), "err", err)
	return fuse.Status(v.errno)
}
