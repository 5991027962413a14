package webdav

import (
	"sort"
	"sync"
	"unicode/utf8"
)

// isNFC tells whether a name is surely in Unicode's normalization form C, so that a
// server that normalizes names (Nextcloud) keeps it byte for byte. Nearly all names
// are told at a glance: below U+0300 nothing changes. It may say no to a name in form
// C that puts an overlay upon a composed letter, and to characters that are newer than
// its tables.
func isNFC(name string) bool {
	for _, r := range name {
		if r >= 0x300 {
			return nfcData().check(name)
		}
	}
	return true
}

// nfcTables are the tables of nfctable.go in a form to look things up in.
type nfcTables struct {
	changed []rune // first, last, ...
	classes []rune // first, last, class, ...
	pairs   map[[2]rune]bool
	marks   map[rune]rune // by composed character: the class of its last mark
}

var nfcData = sync.OnceValue(func() *nfcTables {
	t := &nfcTables{changed: []rune(nfcChanged), classes: []rune(nfcClasses), pairs: map[[2]rune]bool{}, marks: map[rune]rune{}}
	triples := []rune(nfcTriples)
	for i := 0; i < len(triples); i += 3 {
		t.pairs[[2]rune{triples[i], triples[i+1]}] = true
		t.marks[triples[i+2]] = t.class(triples[i+1])
	}
	return t
})

// check applies the definition (Unicode Standard Annex 15): nothing that has to be
// replaced, marks in canonical order, and no mark that would melt into the character
// before it.
func (t *nfcTables) check(name string) bool {
	if !utf8.ValidString(name) {
		return false
	}
	starter, last := rune(-1), rune(0) // last: class of the character before
	for _, r := range name {
		class := t.class(r)
		switch {
		case t.replaced(r), class != 0 && last > class:
			return false
		case class != 0 && last == 0 && t.marks[starter] > class:
			// The mark would move in before one that starter is composed with.
			return false
		case starter >= 0 && (last == 0 || last < class) && t.composes(starter, r):
			return false
		}
		if class == 0 {
			starter = r
		}
		last = class
	}
	return true
}

// replaced looks r up in ranges of two.
func (t *nfcTables) replaced(r rune) bool {
	i := sort.Search(len(t.changed)/2, func(i int) bool { return t.changed[2*i+1] >= r })
	return 2*i < len(t.changed) && t.changed[2*i] <= r
}

// class looks r up in ranges of three; 0 for a character that is no mark.
func (t *nfcTables) class(r rune) rune {
	i := sort.Search(len(t.classes)/3, func(i int) bool { return t.classes[3*i+1] >= r })
	if 3*i < len(t.classes) && t.classes[3*i] <= r {
		return t.classes[3*i+2]
	}
	return 0
}

// composes tells whether form C makes one character of a and b. Hangul syllables are
// composed by rule: leading and vowel, and that with a trailing consonant.
func (t *nfcTables) composes(a, b rune) bool {
	switch {
	case a >= 0x1100 && a <= 0x1112 && b >= 0x1161 && b <= 0x1175:
		return true
	case a >= 0xAC00 && a <= 0xD7A3 && (a-0xAC00)%28 == 0 && b > 0x11A7 && b <= 0x11C2:
		return true
	}
	return t.pairs[[2]rune{a, b}]
}
