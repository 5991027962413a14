package irods

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// sumPrefixes are how the server marks its checksums, which follow in base64. One
// without a mark is MD5 in hex.
var sumPrefixes = []struct{ prefix, algorithm string }{
	{"sha2:", "sha256"},
	{"sha512:", "sha512"},
	{"sha1:", "sha1"},
}

// parseChecksum returns the server's checksum in the contract's form, the zero value
// if it is of a kind that is not known.
func parseChecksum(text string) remote.Checksum {
	for _, p := range sumPrefixes {
		if rest, ok := strings.CutPrefix(text, p.prefix); ok {
			sum, err := base64.StdEncoding.DecodeString(rest)
			if err != nil {
				return remote.Checksum{}
			}
			return remote.Checksum{Algorithm: p.algorithm, Hex: hex.EncodeToString(sum)}
		}
	}
	if sum, err := hex.DecodeString(text); err == nil && len(sum) == 16 {
		return remote.Checksum{Algorithm: "md5", Hex: hex.EncodeToString(sum)}
	}
	return remote.Checksum{}
}

// formatSHA256 returns a checksum in the server's form.
func formatSHA256(sum []byte) string {
	return "sha2:" + base64.StdEncoding.EncodeToString(sum)
}

// checksumOf returns the SHA-256 of data in the server's form.
func checksumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return formatSHA256(sum[:])
}

// sameBytes tells whether data has the checksum; known is false if there is none that
// can be computed here.
func sameBytes(data []byte, want remote.Checksum) (same, known bool) {
	h := remote.NewHash(want.Algorithm)
	if h == nil || want.Hex == "" {
		return false, false
	}
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil)) == want.Hex, true
}
