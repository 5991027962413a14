package irods

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode"
)

// What is on the server before a batch is complete lies in a collection with a name
// .meshmount-TAG.RANDOM.tmp or .meshmount-RANDOM.tmp. It is never listed and cannot be
// found, so that nobody sees what is in it.
const (
	tempPrefix = ".meshmount-"
	tempSuffix = ".tmp"
)

var errHidden = errors.New("names of this form are kept for unfinished uploads")

// tempName returns a name that no other batch has.
func tempName(tag string) string {
	if tag != "" {
		tag += "."
	}
	return fmt.Sprintf("%s%s%016x%s", tempPrefix, tag, rand.Uint64(), tempSuffix)
}

func isTemp(name string) bool {
	return strings.HasPrefix(name, tempPrefix) && strings.HasSuffix(name, tempSuffix)
}

// tempTag returns the tag in a temporary name, "" if it has none.
func tempTag(name string) string {
	tag, _, found := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(name, tempPrefix), tempSuffix), ".")
	if !isTemp(name) || !found {
		return ""
	}
	return tag
}

// isHidden tells whether a path leads to or through a temporary name.
func isHidden(rel string) bool {
	if !strings.Contains(rel, "/"+tempPrefix) {
		return false
	}
	for name := range strings.SplitSeq(rel, "/") {
		if isTemp(name) {
			return true
		}
	}
	return false
}

// within tells whether a path lies below a directory.
func within(rel, dir string) bool {
	return dir == "/" || strings.HasPrefix(rel, dir+"/")
}

// maxPackable bounds the path in the zone of a file in an archive: the server unpacks it
// below the path of the archive in the vault, both together in 1,088 bytes.
const maxPackable = 400

// packable tells whether the extraction certainly holds a path of the zone, and a list of
// values for the catalog too: what is between quotes there cannot hold any.
func packable(path string) bool {
	if len(path) > maxPackable || strings.ContainsAny(path, `'"\`) {
		return false
	}
	return strings.IndexFunc(path, unicode.IsControl) < 0
}
