package remote

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Kind classifies an error. It is itself an error, so that
// errors.Is(err, remote.NotExist) works.
type Kind uint8

// The kinds of errors.
const (
	Other       Kind = iota // nothing better is known
	NotExist                // no such entry, or a parent is missing
	Exist                   // there is something already
	NotDir                  // a directory was needed
	IsDir                   // a file was needed
	NotEmpty                // the directory has entries
	Permission              // the server refuses this user
	Auth                    // credentials missing, wrong or expired; never retried
	Conflict                // a precondition did not hold: the entry is another version
	Changed                 // the wanted version can no longer be read
	Locked                  // locked by a lock or a transfer in progress
	NoSpace                 // quota or storage is full
	TooLarge                // larger than the server accepts
	NameTooLong             // a name is longer than the server or client accepts
	Invalid                 // the server or client cannot take this name or argument
	Unsupported             // the server cannot do this
	Unavailable             // network or server trouble that may pass; retryable
	Corrupt                 // bytes or answer failed a check
	ReadOnly                // the branch takes no changes
	CrossDevice             // two branches are involved
	BadHandle               // closed or of the wrong mode
	NoXattr                 // there is no extended attribute of that name
)

var kindNames = [...]string{
	Other: "other error", NotExist: "does not exist", Exist: "exists already",
	NotDir: "not a directory", IsDir: "is a directory", NotEmpty: "directory not empty",
	Permission: "permission denied", Auth: "not authenticated", Conflict: "changed by somebody else",
	Changed: "version no longer there", Locked: "locked", NoSpace: "no space left",
	TooLarge: "too large", NameTooLong: "name too long", Invalid: "invalid",
	Unsupported: "not supported", Unavailable: "not available", Corrupt: "corrupt",
	ReadOnly: "read-only", CrossDevice: "crosses branches", BadHandle: "closed",
	NoXattr: "no such attribute",
}

// Kinds returns all kinds, for tables that must be complete.
func Kinds() []Kind {
	all := make([]Kind, len(kindNames))
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// String returns a short text for people.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Other]
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return k.String() }

// Error is the error of one operation on one path.
type Error struct {
	Op   string // "stat", "list", "read", "put", "mkdir", "remove", "rename", ...
	Path string // the entry concerned, "" if none
	Kind Kind
	Err  error // cause, may be nil
	// Unsure: a change may have been carried out although this error came back.
	Unsure bool
	// RetryAfter is how long the server asked to wait, 0 if it did not say.
	RetryAfter time.Duration
}

// Error returns "op path: kind: cause". It never holds a secret.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	b.WriteString(": ")
	var inner *Error
	switch {
	case e.Err == nil:
		b.WriteString(e.Kind.String())
	case errors.As(e.Err, &inner):
		b.WriteString(e.Err.Error())
	case e.Kind == Other:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(e.Kind.String() + ": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is tells whether target is this error's Kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the Kind of the outermost *Error in err's chain, or Other.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Other
}

// E wraps cause as an *Error. A cause that is already a *Error
// keeps its kind, path and flags and is returned as it is; an ended context's error
// is returned as it is.
func E(op, path string, kind Kind, cause error) error {
	var e *Error
	if errors.As(cause, &e) {
		return cause
	}
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return &Error{Op: op, Path: path, Kind: kind, Err: cause}
}

// Retryable tells whether the same call may succeed a little later: Unavailable,
// Locked and Corrupt do. It says nothing of whether a repeat is harmless; see
// Error.Unsure.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch KindOf(err) {
	case Unavailable, Locked, Corrupt:
		return true
	}
	return false
}
