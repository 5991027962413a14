package efss

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/adler32"
	"io"
	"os"
	"strings"
)

// newHash returns the hash of that name in lower case, or nil.
func newHash(name string) hash.Hash {
	switch name {
	case "md5":
		return md5.New()
	case "sha1":
		return sha1.New()
	case "sha256":
		return sha256.New()
	case "adler32":
		return adler32.New()
	}
	return nil
}

// hashFile returns the digest of a file on disk.
func hashFile(disk, name string) ([]byte, error) {
	h := newHash(name)
	if h == nil {
		return nil, fmt.Errorf("no hash %q", name)
	}
	f, err := os.Open(disk)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// hasher computes several digests of one stream.
type hasher struct{ sums map[string]hash.Hash }

// newHasher skips names that it does not know.
func newHasher(names ...string) *hasher {
	h := &hasher{sums: map[string]hash.Hash{}}
	for _, n := range names {
		if sum := newHash(n); sum != nil {
			h.sums[n] = sum
		}
	}
	return h
}

// Write feeds all digests. It never fails.
func (h *hasher) Write(p []byte) (int, error) {
	for _, sum := range h.sums {
		_, _ = sum.Write(p)
	}
	return len(p), nil
}

// hex returns the digest of that name, "" if it was not computed.
func (h *hasher) hex(name string) string {
	if sum := h.sums[name]; sum != nil {
		return hex.EncodeToString(sum.Sum(nil))
	}
	return ""
}

// ocis returns the checksums as the oCIS family shows them.
func (h *hasher) ocis() string {
	return "SHA1:" + h.hex("sha1") + " MD5:" + h.hex("md5") + " ADLER32:" + h.hex("adler32")
}

// splitChecksum reads an OC-Checksum header, "SHA1:hex" or "sha1 hex".
func splitChecksum(text string) (name, sum string, ok bool) {
	name, sum, ok = strings.Cut(strings.TrimSpace(text), ":")
	if !ok {
		name, sum, ok = strings.Cut(strings.TrimSpace(text), " ")
	}
	return strings.ToLower(name), strings.ToLower(strings.TrimSpace(sum)), ok
}
