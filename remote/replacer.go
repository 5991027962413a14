package remote

import "context"

// Replacer is the ability of a Backend that cannot always put one thing in the place of another
// in one step. What is cut off between the steps leaves the former content beside the new one,
// under another name. Who knows from a journal what was under way ends it by this.
type Replacer interface {
	// InSteps tells whether what has that version is replaced, renamed, or given attributes in
	// more than one step. It costs no request.
	InSteps(version string) bool

	// Former returns the path whose content e was, if it has a name of its own only because
	// something else is there; otherwise false. It goes by what e says of itself alone, and
	// costs no request.
	Former(e Entry) (path string, ok bool)

	// Became tells whether e is what has become of that version by steps that change neither its
	// bytes nor its time, whoever made them. It may cost that e is read.
	Became(ctx context.Context, e Entry, version string) (bool, error)

	// Replaced ends a change that may have been cut off: e is what is at its path by that, and
	// version is what it was to replace there, "" if nothing or if that is not known. What is
	// left of that version, and what has the very bytes of e, does not show any more. It is not an
	// error if there is nothing left, or if e is not there any more.
	Replaced(ctx context.Context, e Entry, version string) error
}

// ReplacerOf returns the outermost decorator of b, or b itself, that is a Replacer; nil if there is
// none. Unlike other abilities (As) it is one of a decorator, whose adapter need not have it.
func ReplacerOf(b Backend) Replacer {
	for b != nil {
		if r, ok := b.(Replacer); ok {
			return r
		}
		u, ok := b.(Unwrapper)
		if !ok {
			return nil
		}
		b = u.Unwrap()
	}
	return nil
}
