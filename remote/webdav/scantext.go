package webdav

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cdata is the quote of a CDATA section.
const cdata = ']'

// readText reads text into t.text: up to the next '<' if quote is 0, up to the quote
// of an attribute, or up to the "]]>" of a CDATA section.
func (s *scanner) readText(t *token, quote byte) error {
	s.text, s.raw, s.suspect = s.text[:0], 0, false
	for {
		from := s.pos
		for s.pos < s.end && charClass[s.buf[s.pos]]&isSpecial == 0 {
			s.pos++
		}
		s.text = append(s.text, s.buf[from:s.pos]...)
		if s.pos == s.end {
			switch err := s.fill(); {
			case err == nil:
				continue
			case quote == 0:
				return s.finish(t) // the next token tells the error
			default:
				return cut(err)
			}
		}
		b := s.buf[s.pos]
		if b == '<' && quote == 0 {
			return s.finish(t)
		}
		s.pos++
		over, err := s.special(b, quote)
		if err != nil {
			return err
		}
		if over {
			return s.finish(t)
		}
	}
}

// special takes a byte of text that may have a meaning. It tells whether the text is
// over.
func (s *scanner) special(b, quote byte) (over bool, err error) {
	switch {
	case b == '"' || b == '\'':
		if b == quote {
			return true, nil
		}
	case b == '&' && quote != cdata:
		return false, s.reference()
	case b == '<' && quote != cdata:
		return false, syntax("unescaped < inside quoted string")
	case b == '>' && (quote == 0 || quote == cdata) && bytes.HasSuffix(s.text[s.raw:], []byte("]]")):
		if quote != cdata {
			return false, syntax("unescaped ]]> not in CDATA section")
		}
		s.text = s.text[:len(s.text)-2]
		return true, nil
	case b == '\r':
		return false, s.newline()
	case b < ' ' || b >= utf8.RuneSelf:
		s.suspect = true
	}
	s.text = append(s.text, b)
	return false, nil
}

// newline takes a CR, and an LF behind it: both together are one LF.
func (s *scanner) newline() error {
	s.text = append(s.text, '\n')
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return nil // told when the next byte is wanted
		}
	}
	if s.buf[s.pos] == '\n' {
		s.pos++
	}
	return nil
}

// reference takes a character reference or one of the five entities, behind its '&'.
func (s *scanner) reference() error {
	from := len(s.text)
	for {
		b, err := s.next()
		if err != nil {
			return err
		}
		if b == ';' {
			break
		}
		if charClass[b]&isName == 0 && (b != '#' || len(s.text) > from) {
			return syntax("invalid character entity &" + bounded(string(s.text[from:]), 40))
		}
		s.text = append(s.text, b)
	}
	r, ok := character(string(s.text[from:]))
	if !ok {
		return syntax("invalid character entity &" + bounded(string(s.text[from:]), 40) + ";")
	}
	s.text = utf8.AppendRune(s.text[:from], r)
	s.raw, s.suspect = len(s.text), true
	return nil
}

// character returns what stands between '&' and ';' for.
func character(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "apos":
		return '\'', true
	case "quot":
		return '"', true
	}
	digits, ok := strings.CutPrefix(name, "#")
	if !ok {
		return 0, false
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return rune(n), err == nil && n <= unicode.MaxRune
}

// finish makes the text of a token, once its characters are looked at.
func (s *scanner) finish(t *token) error {
	t.text = s.text
	if !s.suspect {
		return nil
	}
	for rest := s.text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return syntax("invalid UTF-8")
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0xFFFE, r == 0xFFFF:
			return syntax(fmt.Sprintf("illegal character code %U", r))
		}
		rest = rest[size:]
	}
	return nil
}

// The classes of bytes.
const (
	isName    = 1 << iota // may stand in a name, as far as one byte tells
	isSpecial             // needs a look when it stands in text
)

// charClass says it of each byte.
var charClass = func() (class [256]uint8) {
	for b := range class {
		c := byte(b)
		switch {
		case c >= utf8.RuneSelf:
			class[b] = isName | isSpecial
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_:.-", c) >= 0:
			class[b] = isName
		case c < ' ' && c != '\n' && c != '\t', strings.IndexByte(`<>&"'`, c) >= 0:
			class[b] = isSpecial
		}
	}
	return class
}()
