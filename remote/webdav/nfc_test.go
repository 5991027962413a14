package webdav

import "testing"

func TestIsNFC(t *testing.T) {
	for _, name := range []string{
		"", "plain.txt", "café", "ümläut ß", "日本語", "עברית", "🙂", "x\u0302", "m\u0304\u0301", "ɛ\u0300",
		"한국어", "\u1ea1\u0301", "ﬁ", "a\u0323\u0302b"[3:], "ệ", "क\u094d", "\u0301lonely",
	} {
		if !isNFC(name) {
			t.Errorf("%+q is in form C", name)
		}
	}
	for _, name := range []string{
		"cafe\u0301", "A\u030a", "\u212b", "\u2126", "\uf900", "\u0344", "\u1100\u1161", "\uac00\u11a8",
		"a\u0302\u0323",        // marks out of order
		"q\u0302\u0323",        // out of order, though nothing composes
		"e\u0323\u0302",        // both melt in
		"\u1ea1\u0302",         // melts into the composed letter
		"\u00e9\u0328",         // would move in before the accent
		"x\u0323\u0301e\u0301", // later in the name
		"\u0928\u093c", "bad\xff\u0301",
	} {
		if isNFC(name) {
			t.Errorf("%+q is not in form C", name)
		}
	}
}
