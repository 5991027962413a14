package remote

import "context"

// Unwrapper is implemented by decorators.
type Unwrapper interface{ Unwrap() Backend }

// As finds the optional ability T of b. The ability is there if the innermost
// backend (the adapter) has it; what is returned is the outermost decorator's view
// of it, so that limits, deadlines and retries hold for optional calls as well.
func As[T any](b Backend) (T, bool) {
	var zero T
	base := b
	for {
		u, ok := base.(Unwrapper)
		if !ok {
			break
		}
		base = u.Unwrap()
	}
	if _, ok := base.(T); !ok {
		return zero, false
	}
	for {
		if t, ok := b.(T); ok {
			return t, true
		}
		u, ok := b.(Unwrapper)
		if !ok {
			return zero, false
		}
		b = u.Unwrap()
	}
}

type progressKey struct{}

// WithProgress returns a context in which Progress calls tick.
func WithProgress(ctx context.Context, tick func()) context.Context {
	return context.WithValue(ctx, progressKey{}, tick)
}

// Progress tells whoever watches the call that bytes have moved. Adapters call it
// for each piece of a body, sent or received. It is cheap and never blocks.
func Progress(ctx context.Context) {
	if tick, ok := ctx.Value(progressKey{}).(func()); ok {
		tick()
	}
}
