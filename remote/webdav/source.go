package webdav

import (
	"context"
	"io"
	"strings"
)

// text is a Source over a string.
type text string

// Size implements remote.Source.
func (s text) Size() int64 { return int64(len(s)) }

// Open implements remote.Source.
func (s text) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

// openText is the open of an outgoing.
func openText(s string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return text(s).Open() }
}
