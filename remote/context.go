package remote

import (
	"context"
	"errors"
)

// ContextErr returns the error that a call must return because its context has
// ended: the cause given to the context if that is a *Error, otherwise
// context.Canceled or context.DeadlineExceeded. It returns nil if ctx goes on.
func ContextErr(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	var e *Error
	if cause := context.Cause(ctx); errors.As(cause, &e) {
		return cause
	}
	return err
}

type onceKey struct{}

// WithoutRetry returns a context in which Retry makes one attempt only: for callers that
// repeat calls by a plan of their own. What comes back is the error of that attempt as it
// is, with Unsure and RetryAfter: the fate of a change that is Unsure is for the caller to
// settle, and PutOptions.Redo for him to set.
func WithoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, true)
}

// withoutRetry tells whether ctx is from WithoutRetry.
func withoutRetry(ctx context.Context) bool { return ctx.Value(onceKey{}) != nil }
