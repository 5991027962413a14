package remote

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"hash/adler32"
)

// NewHash returns the hash of a Checksum's algorithm, nil if it is unknown here.
// Known are "sha256", "sha512", "sha1", "md5" and "adler32".
func NewHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	case "sha1":
		return sha1.New()
	case "md5":
		return md5.New()
	case "adler32":
		return adler32.New()
	}
	return nil
}
