package settings

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

const (
	maxElement = 255  // bytes, NAME_MAX of the kernel
	maxName    = 1024 // bytes
)

// checkName returns why name cannot be a branch's place in the mount, or nil. The
// empty name is the root of the mount.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("name is longer than %d bytes", maxName)
	}
	if name == "" {
		return nil
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "":
			return errors.New("an element of the name is empty (a slash too many)")
		case element == "." || element == "..":
			return fmt.Errorf("%q is not allowed in a name", element)
		case len(element) > maxElement:
			return fmt.Errorf("an element of the name is longer than %d bytes", maxElement)
		}
	}
	if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar || r == '=' }) {
		return errors.New("control characters, broken UTF-8 and = are not allowed in a name")
	}
	return nil
}

// SplitBranch takes apart NAME=URL. It returns an *exit.Error that shows no
// password if there should be one in the URL.
func SplitBranch(arg string) (name, address string, err error) {
	name, address, found := strings.Cut(arg, "=")
	if !found || strings.Contains(name, "://") {
		return "", "", exit.New(exit.BadURL, "write NAME=URL, or =URL to mount it at the root",
			"%q has no name", HideSecret(arg))
	}
	if err := checkName(name); err != nil {
		return "", "", exit.New(exit.BadURL, "use names such as sciebo or lexis/project1", "branch %q: %w", name, err)
	}
	if address == "" {
		return "", "", exit.New(exit.BadURL, "write NAME=davs://HOST/PATH or NAME=irods://USER@HOST/ZONE/COLLECTION", "branch %q has no URL", name)
	}
	return name, address, nil
}

// HideSecret returns text with whatever could be a user's password in a URL
// replaced by dots. It works on text that is no proper URL, too.
func HideSecret(text string) string {
	start := strings.Index(text, "://")
	if start < 0 {
		return hideUserinfo(text)
	}
	start += len("://")
	return text[:start] + hideUserinfo(text[start:])
}

// hideUserinfo hides what is between the first colon, written out or as %3A, and the
// last "@". A password may hold any character, so the slash does not end the search.
func hideUserinfo(text string) string {
	at := strings.LastIndexByte(text, '@')
	colon := strings.IndexByte(text, ':')
	if escaped := strings.Index(strings.ToLower(text), "%3a"); escaped >= 0 && (colon < 0 || escaped < colon) {
		colon = escaped
	}
	if at < 0 || colon < 0 || colon > at {
		return text
	}
	return text[:colon] + ":..." + text[at:]
}
