package wire

import "strings"

// The character references of the packing, as iRODS 4.2.9 and later write and read
// them. There are no others: a numeric reference is plain text to the server.
var references = [...]struct {
	char byte
	text string
}{
	{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&apos;"},
}

// Escape appends s to dst with & < > " and ' replaced by references. All other bytes
// stay as they are.
func Escape(dst []byte, s string) []byte {
	from := 0
	for i := range len(s) {
		for _, ref := range references {
			if s[i] == ref.char {
				dst = append(dst, s[from:i]...)
				dst = append(dst, ref.text...)
				from = i + 1
			}
		}
	}
	return append(dst, s[from:]...)
}

// Unescape replaces the five references. An ampersand that starts none of them stays
// as it is. (The real server repeats the text before it; nobody can rely on that.)
func Unescape(s string) string {
	i := strings.IndexByte(s, '&')
	if i < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for ; i >= 0; i = strings.IndexByte(s, '&') {
		b = append(b, s[:i]...)
		char, n := reference(s[i:])
		b = append(b, char)
		s = s[i+n:]
	}
	return string(append(b, s...))
}

// reference returns the character that s, which starts with an ampersand, begins
// with, and its length in s.
func reference(s string) (byte, int) {
	for _, ref := range references {
		if strings.HasPrefix(s, ref.text) {
			return ref.char, len(ref.text)
		}
	}
	return '&', 1
}
