package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// tokenKind tells tokens apart.
type tokenKind uint8

const (
	tokenStart tokenKind = iota // of an element
	tokenEnd
	tokenText  // text or a CDATA section
	tokenOther // a comment or a processing instruction
)

// token is one piece of a document. It is valid until the next is asked for.
type token struct {
	kind tokenKind
	name xml.Name // of an element, with its name space
	text []byte
}

// scanner reads a document token by token. It takes and refuses what encoding/xml does
// in its strict mode (a fuzz test holds them against each other), for a tenth of the
// time and hardly any garbage: of the 41 ms of CPU that a listing of 2,000 entries
// took, 35 were spent there. What is rare is left to encoding/xml itself: each new name
// and the processing instructions. Two things are stricter: there is no document type
// (errNotStatus), and a document that ends early is always errCut.
type scanner struct {
	r        io.Reader
	buf      []byte
	pos, end int   // what is read and not used lies in buf[pos:end]
	err      error // of r; sticks

	text    []byte // of the token in hand
	raw     int    // text[raw:] stands in the document as it is, without a reference
	suspect bool   // text may hold characters that XML does not allow

	open  []qname // the elements around the present place, outermost first
	empty bool    // the last start was that of an empty element: its end is next
	names map[string]qname
	scope []binding // of prefixes to name spaces, innermost last
}

// qname is a name as it stands in the document.
type qname struct{ prefix, local string }

// binding gives a prefix a meaning within an element.
type binding struct {
	prefix, space string
	depth         int // of the element, from 1
}

const (
	scanBuffer = 32 << 10
	maxNames   = 1000 // names remembered; a listing of this kind has some twenty
)

func newScanner(r io.Reader) *scanner {
	return &scanner{r: r, buf: make([]byte, scanBuffer), names: map[string]qname{}}
}

// errSyntax is the cause of what is no XML.
var errSyntax = errors.New("the listing is not well-formed")

func syntax(what string) error { return fmt.Errorf("%w: %s", errSyntax, what) }

// fill reads more once all that was read is used. Without an error there is something.
func (s *scanner) fill() error {
	s.pos, s.end = 0, 0
	for range 100 {
		if s.err != nil {
			return s.err
		}
		if s.end, s.err = s.r.Read(s.buf); s.end > 0 {
			return nil
		}
	}
	s.err = io.ErrNoProgress
	return s.err
}

// next returns the next byte, inside of a token: the document must not end here.
func (s *scanner) next() (byte, error) {
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return 0, cut(err)
		}
	}
	s.pos++
	return s.buf[s.pos-1], nil
}

// cut makes errCut of the end of the document.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

// token reads the next one. The error is io.EOF only after the root element.
func (s *scanner) token(t *token) error {
	if s.empty {
		s.empty = false
		return s.pop(t, s.open[len(s.open)-1])
	}
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return s.ended(err)
		}
	}
	if s.buf[s.pos] != '<' {
		t.kind = tokenText
		return s.readText(t, 0)
	}
	s.pos++
	b, err := s.next()
	switch {
	case err != nil:
		return err
	case b == '/':
		return s.readEnd(t)
	case b == '!':
		return s.readBang(t)
	case b == '?':
		t.kind = tokenOther
		return s.readInstruction()
	}
	s.pos--
	return s.readStart(t)
}

// ended tells whether the document may end where it does.
func (s *scanner) ended(err error) error {
	if err == io.EOF && len(s.open) == 0 {
		return io.EOF
	}
	return cut(err)
}

// readStart reads a start behind its '<'.
func (s *scanner) readStart(t *token) error {
	name, err := s.readName()
	if err != nil {
		return err
	}
	depth := len(s.open) + 1
	for {
		b, err := s.skipSpace()
		if err != nil {
			return err
		}
		if b == '/' {
			if b, err = s.next(); err != nil {
				return err
			}
			if b != '>' {
				return syntax("expected /> in element")
			}
			s.empty = true
		}
		if b == '>' {
			break
		}
		s.pos--
		if err := s.readAttr(t, depth); err != nil {
			return err
		}
	}
	s.open = append(s.open, name)
	t.kind, t.name = tokenStart, s.resolve(name)
	return nil
}

// readAttr reads one attribute. Only the declarations of name spaces are of use.
func (s *scanner) readAttr(t *token, depth int) error {
	name, err := s.readName()
	if err != nil {
		return err
	}
	b, err := s.skipSpace()
	if err == nil && b != '=' {
		err = syntax("attribute name without = in element")
	}
	if err == nil {
		b, err = s.skipSpace()
	}
	if err == nil && b != '"' && b != '\'' {
		err = syntax("unquoted or missing attribute value in element")
	}
	if err == nil {
		err = s.readText(t, b)
	}
	switch {
	case err != nil:
		return err
	case name.prefix == "xmlns":
		s.scope = append(s.scope, binding{name.local, string(t.text), depth})
	case name.prefix == "" && name.local == "xmlns":
		s.scope = append(s.scope, binding{"", string(t.text), depth})
	}
	return nil
}

// readEnd reads an end behind its "</".
func (s *scanner) readEnd(t *token) error {
	name, err := s.readName()
	if err != nil {
		return err
	}
	b, err := s.skipSpace()
	switch {
	case err != nil:
		return err
	case b != '>':
		return syntax("invalid characters between </" + bounded(name.local, 40) + " and >")
	}
	return s.pop(t, name)
}

// pop makes the token of an end and closes its element.
func (s *scanner) pop(t *token, name qname) error {
	depth := len(s.open)
	if depth == 0 || s.open[depth-1] != name {
		return syntax("unexpected end element </" + bounded(name.local, 40) + ">")
	}
	t.kind, t.name = tokenEnd, s.resolve(name)
	s.open = s.open[:depth-1]
	for n := len(s.scope); n > 0 && s.scope[n-1].depth == depth; n-- {
		s.scope = s.scope[:n-1]
	}
	return nil
}

// resolve puts the name space in place of the prefix. A prefix without a meaning stays,
// as in encoding/xml: it is no name space that we know.
func (s *scanner) resolve(name qname) xml.Name {
	switch {
	case name.prefix == "xml":
		return xml.Name{Space: "http://www.w3.org/XML/1998/namespace", Local: name.local}
	case name.prefix == "xmlns", name.prefix == "" && name.local == "xmlns":
		return xml.Name{Space: name.prefix, Local: name.local}
	}
	for _, b := range slices.Backward(s.scope) {
		if b.prefix == name.prefix {
			return xml.Name{Space: b.space, Local: name.local}
		}
	}
	return xml.Name{Space: name.prefix, Local: name.local}
}

// skipSpace returns the first byte that is no blank.
func (s *scanner) skipSpace() (byte, error) {
	for {
		b, err := s.next()
		if err != nil {
			return 0, err
		}
		switch b {
		case ' ', '\r', '\n', '\t':
		default:
			return b, nil
		}
	}
}

// readName reads a name.
func (s *scanner) readName() (qname, error) {
	s.text = s.text[:0]
	for {
		from := s.pos
		for s.pos < s.end && charClass[s.buf[s.pos]]&isName != 0 {
			s.pos++
		}
		if s.pos < s.end && len(s.text) == 0 {
			return s.nameOf(s.buf[from:s.pos])
		}
		s.text = append(s.text, s.buf[from:s.pos]...)
		if s.pos < s.end {
			return s.nameOf(s.text)
		}
		if err := s.fill(); err != nil {
			return qname{}, cut(err)
		}
	}
}

// nameOf splits a name. encoding/xml is asked about each that is new.
func (s *scanner) nameOf(raw []byte) (qname, error) {
	if name, ok := s.names[string(raw)]; ok {
		return name, nil
	}
	tok, err := xml.NewDecoder(strings.NewReader("<" + string(raw) + "/>")).RawToken()
	start, ok := tok.(xml.StartElement)
	if err != nil || !ok {
		return qname{}, syntax("not a name: " + bounded(string(raw), 40))
	}
	name := qname{start.Name.Space, start.Name.Local}
	if len(s.names) < maxNames {
		s.names[string(raw)] = name
	}
	return name, nil
}

// readInstruction reads a processing instruction behind its "<?". encoding/xml judges
// it, first its name alone: only version 1.0 and UTF-8 are taken.
func (s *scanner) readInstruction() error {
	s.text = append(s.text[:0], "<?"...)
	named := false
	for {
		b, err := s.next()
		if err != nil {
			return err
		}
		if !named && charClass[b]&isName == 0 {
			named = true
			if err := judge(string(s.text) + "?>"); err != nil {
				return err
			}
		}
		s.text = append(s.text, b)
		if b == '>' && bytes.HasSuffix(s.text, []byte("?>")) {
			return judge(string(s.text))
		}
	}
}

// judge asks encoding/xml about a token.
func judge(text string) error {
	if _, err := xml.NewDecoder(strings.NewReader(text)).RawToken(); err != nil {
		return fmt.Errorf("%w: %w", errSyntax, err)
	}
	return nil
}

// readBang reads a comment or a CDATA section behind its "<!".
func (s *scanner) readBang(t *token) error {
	b, err := s.next()
	if err != nil {
		return err
	}
	switch b {
	case '-':
		if err := s.literal("-"); err != nil {
			return err
		}
		t.kind = tokenOther
		return s.readComment()
	case '[':
		if err := s.literal("CDATA["); err != nil {
			return err
		}
		t.kind = tokenText
		return s.readText(t, cdata)
	}
	return errNotStatus // a document type: nobody who means well sends one
}

// literal reads what must come next.
func (s *scanner) literal(want string) error {
	for i := range len(want) {
		b, err := s.next()
		switch {
		case err != nil:
			return err
		case b != want[i]:
			return syntax("invalid <! sequence")
		}
	}
	return nil
}

// readComment reads a comment behind its "<!--".
func (s *scanner) readComment() error {
	for dashes := 0; ; {
		b, err := s.next()
		switch {
		case err != nil:
			return err
		case dashes == 2 && b == '>':
			return nil
		case dashes == 2:
			return syntax(`invalid sequence "--" not allowed in comments`)
		case b == '-':
			dashes++
		default:
			dashes = 0
		}
	}
}
