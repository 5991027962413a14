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
