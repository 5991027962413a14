package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// The namespaces whose elements we read.
const (
	nsDAV  = "DAV:"
	nsOC   = "http://owncloud.org/ns"
	nsNC   = "http://nextcloud.org/ns"
	nsOurs = "https://meshmount.github.io/ns/1"
)

// Bounds on what a server can make us hold or do.
const (
	maxDepth    = 32         // of elements
	maxValue    = 64 << 10   // bytes of one value; a longer one makes its entry unusable
	maxResponse = 1 << 20    // bytes of one response element
	maxEntries  = 10_000_000 // in one listing
)

// Errors of a multistatus. A cut is trouble of the way (Unavailable), the others are
// trouble of the content (Corrupt).
var (
	errCut       = errors.New("the listing is cut short")
	errNotStatus = errors.New("the answer is not a multistatus document")
	errBigEntry  = errors.New("one entry of the listing is larger than 1 MiB")
	errMany      = errors.New("the listing has more than 10,000,000 entries")
	errDeep      = errors.New("the listing nests too deep")
	errTrailing  = errors.New("something follows after the listing")
)

// props are the values of one resource that we know what to do with.
type props struct {
	etag, modified, length string
	collection             bool
	id, perms, checksums   string
	uploadTime             string
	quotaUsed, quotaFree   string
	attr                   string
	iscollection           string // XRootD tells it with every resource, asked or not
}

// response is one response element.
type response struct {
	href   string
	status int   // of the resource as a whole, 0 if the properties have their own
	found  bool  // there was a propstat with status 200
	props  props // from it
	// overlong: some value was longer than maxValue, and is missing or cut.
	overlong bool
	// refused is the status of the first propstat that is neither 200 nor 404, for
	// the answers to PROPPATCH; 424 (something else failed) only if there is no other.
	refused int
}

// parser reads a multistatus document token by token.
type parser struct {
	s      *scanner
	t      token // the last one read
	budget *budgetReader
	depth  int
	cur    response
	stat   propstat
}

// propstat is the one being read. Its status may stand before or after the values.
type propstat struct {
	props  props
	status int
}

// budgetReader bounds what is read between two resets.
type budgetReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBigEntry
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// parseMultistatus calls each for every response of the document in r, as it comes
// in, and returns only after the whole document was seen: nil means that nothing is
// missing. The *response is valid during the call. An error of each ends the reading
// and is returned as it is.
func parseMultistatus(r io.Reader, each func(*response) error) error {
	budget := &budgetReader{r, maxResponse}
	p := &parser{s: newScanner(budget), budget: budget}
	if err := p.root(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		more, err := p.response()
		if err != nil {
			return err
		}
		if !more {
			return p.epilogue()
		}
		if n == maxEntries {
			return errMany
		}
		if err := each(&p.cur); err != nil {
			return err
		}
	}
}

// next reads the next token into t.
func (p *parser) next() error {
	if err := p.s.token(&p.t); err != nil {
		return err
	}
	switch p.t.kind {
	case tokenStart:
		if p.depth++; p.depth > maxDepth {
			return errDeep
		}
	case tokenEnd:
		p.depth--
	}
	return nil
}

// root reads up to the start of the multistatus element.
func (p *parser) root() error {
	for {
		err := p.next()
		switch name := p.t.name; {
		case err != nil:
			return cut(err)
		case p.t.kind != tokenStart:
		case name.Space != nsDAV || name.Local != "multistatus":
			return fmt.Errorf("%w but <%s>", errNotStatus, bounded(name.Local, 40))
		default:
			return nil
		}
	}
}

// epilogue reads to the end of the input. Only blanks and comments may follow.
func (p *parser) epilogue() error {
	for {
		err := p.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case p.t.kind == tokenOther:
		case p.t.kind == tokenText && len(bytes.TrimSpace(p.t.text)) == 0:
		default:
			return errTrailing
		}
	}
}

// response reads the next response element into cur, or the end of the root.
func (p *parser) response() (more bool, err error) {
	for {
		p.budget.left = maxResponse
		if err := p.next(); err != nil {
			return false, err
		}
		switch p.t.kind {
		case tokenEnd:
			return false, nil
		case tokenStart:
			if p.t.name.Space != nsDAV || p.t.name.Local != "response" {
				if err := p.skip(); err != nil {
					return false, err
				}
				continue
			}
			p.cur = response{}
			return true, p.children(p.inResponse)
		}
	}
}

// children calls child for each element inside the one just begun, which it must
// read to its end.
func (p *parser) children(child func(xml.Name) error) error {
	for {
		if err := p.next(); err != nil {
			return err
		}
		switch p.t.kind {
		case tokenEnd:
			return nil
		case tokenStart:
			if err := child(p.t.name); err != nil {
				return err
			}
		}
	}
}

func (p *parser) skip() error { return p.children(func(xml.Name) error { return p.skip() }) }

func (p *parser) inResponse(name xml.Name) error {
	if name.Space != nsDAV {
		return p.skip()
	}
	switch name.Local {
	case "href":
		text, err := p.text()
		if p.cur.href == "" {
			p.cur.href = strings.TrimSpace(text)
		}
		return err
	case "status":
		text, err := p.text()
		p.cur.status = parseStatus(text)
		return err
	case "propstat":
		p.stat = propstat{}
		if err := p.children(p.inPropstat); err != nil {
			return err
		}
		p.cur.merge(&p.stat)
		return nil
	}
	return p.skip()
}

// merge takes up one propstat.
func (r *response) merge(s *propstat) {
	switch {
	case s.status == 200, s.status == http.StatusTooEarly:
		// The oCIS family shows a file that it still processes under 425.
		r.found, r.props = true, s.props
	case s.status > 200 && s.status < 300: // a property that was removed: sabre says 204
	case s.status == 404:
	case r.refused == 0 || r.refused == 424:
		r.refused = orDefault(s.status, 500)
	}
}

func (p *parser) inPropstat(name xml.Name) error {
	if name.Space == nsDAV && name.Local == "prop" {
		return p.children(p.inProp)
	}
	if name.Space == nsDAV && name.Local == "status" {
		text, err := p.text()
		p.stat.status = parseStatus(text)
		return err
	}
	return p.skip()
}

// inProp reads one property.
func (p *parser) inProp(name xml.Name) error {
	v := &p.stat.props
	switch name.Space {
	case nsDAV:
		switch name.Local {
		case "resourcetype":
			return p.children(func(n xml.Name) error {
				v.collection = v.collection || n.Space == nsDAV && n.Local == "collection"
				return p.skip()
			})
		case "getetag":
			return p.value(&v.etag)
		case "getlastmodified":
			return p.value(&v.modified)
		case "getcontentlength":
			return p.value(&v.length)
		case "quota-used-bytes":
			return p.value(&v.quotaUsed)
		case "quota-available-bytes":
			return p.value(&v.quotaFree)
		case "iscollection":
			return p.value(&v.iscollection)
		}
	case nsOC:
		switch name.Local {
		case "id":
			return p.value(&v.id)
		case "permissions":
			return p.value(&v.perms)
		case "checksums":
			return p.value(&v.checksums)
		}
	case nsNC:
		if name.Local == "upload_time" {
			return p.value(&v.uploadTime)
		}
	case nsOurs:
		if name.Local == "attr" {
			return p.value(&v.attr)
		}
	}
	return p.skip()
}

// value reads the text of the element just begun into dst.
func (p *parser) value(dst *string) error {
	text, err := p.text()
	*dst = strings.TrimSpace(text)
	return err
}

// text reads the text inside the element just begun, that of nested elements
// included (oc:checksums nests one). One that is too long counts as overlong.
func (p *parser) text() (string, error) {
	var only string // a value comes in one piece, as a rule
	var b strings.Builder
	for depth := 0; ; {
		if err := p.next(); err != nil {
			return "", err
		}
		switch p.t.kind {
		case tokenStart:
			depth++
		case tokenEnd:
			if depth == 0 {
				return only + b.String(), nil
			}
			depth--
		case tokenText:
			switch {
			case len(only)+b.Len()+len(p.t.text) > maxValue:
				p.cur.overlong = true
			case only == "" && b.Len() == 0:
				only = string(p.t.text)
			default:
				b.Write(p.t.text)
			}
		}
	}
}

// parseStatus reads the code of "HTTP/1.1 200 OK"; 0 if there is none.
func parseStatus(text string) int {
	_, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	code, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > 999 {
		return 0
	}
	return n
}
