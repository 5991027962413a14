package remote

import (
	"context"
	"fmt"
	"io"
)

// Secret is a password or token that does not show itself: every way of printing
// or encoding it gives "[secret]". Reveal is the only way to the text.
type Secret struct{ text string }

const redacted = "[secret]"

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. Call it as late as possible.
func (s Secret) Reveal() string { return s.text }

// IsZero tells whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns "[secret]".
func (Secret) String() string { return redacted }

// Format writes "[secret]" for every verb, also %#v.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[secret]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[secret]" in quotes.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// SecretSource fetches a secret when it is needed: from the environment, a file, a
// command or a prompt. An adapter asks it again only after the server has refused
// the secret it had, and gives up (Auth) when the answer is the same.
type SecretSource func(ctx context.Context) (Secret, error)
