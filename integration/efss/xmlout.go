package efss

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Name spaces of properties.
const (
	nsDAV    = "DAV:"
	nsOC     = "http://owncloud.org/ns"
	nsNC     = "http://nextcloud.org/ns"
	nsApache = "http://apache.org/dav/props/"
)

// listStyle is how a dialect writes multistatus documents. All are the same to a
// parser that knows XML and none are the same to one that does not.
type listStyle struct {
	header   string            // before the root element
	root     string            // start tag of the root element
	p        string            // prefix of the elements around the properties
	prefixes map[string]string // of properties, by name space
	inline   bool              // other name spaces: <name xmlns="..">, else <x1:name xmlns:x1="..">
	response string            // start tag of a response
	nl       string            // after each tag around the properties
	long     bool              // empty elements as <a></a>
	quote    string            // how a quotation mark in text is written
	safe     string            // further characters that hrefs leave as they are
	goPaths  bool              // hrefs escaped as Go's net/url does, else sabre's way
	nameOC   bool              // oc:name is there, first, unasked
	typ      string            // Content-Type
}

func listSabre() listStyle {
	return listStyle{
		header: "<?xml version=\"1.0\"?>\n", p: "d",
		root:     `<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns">`,
		prefixes: map[string]string{nsDAV: "d", nsOC: "oc", nsNC: "nc"},
		response: "<d:response>", quote: "&quot;", typ: "application/xml; charset=utf-8",
	}
}

func listOcis() listStyle {
	return listStyle{
		p:        "d",
		root:     `<d:multistatus xmlns:s="http://sabredav.org/ns" xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">`,
		prefixes: map[string]string{nsDAV: "d", nsOC: "oc"}, inline: true,
		response: "<d:response>", long: true, quote: `"`, goPaths: true, typ: "application/xml; charset=utf-8",
	}
}

func listReva() listStyle {
	return listStyle{
		header: `<?xml version="1.0" encoding="utf-8"?>`, p: "d",
		root:     `<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" xmlns:oc="http://owncloud.org/ns">`,
		prefixes: map[string]string{nsDAV: "d", nsOC: "oc"}, inline: true,
		response: "<d:response>", long: true, quote: "&#34;", nameOC: true, typ: "application/xml; charset=utf-8",
	}
}

func listApache() listStyle {
	return listStyle{
		header: "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n", p: "D", nl: "\n",
		root:     `<D:multistatus xmlns:D="DAV:">`,
		prefixes: map[string]string{nsDAV: "lp1", nsApache: "lp2"},
		response: `<D:response xmlns:lp2="http://apache.org/dav/props/" xmlns:lp1="DAV:">`,
		safe:     "$+!*',:@&=", quote: `"`, typ: `text/xml; charset="utf-8"`,
	}
}

func listXRootD() listStyle {
	st := listApache()
	st.root = `<D:multistatus xmlns:D="DAV:" xmlns:ns1="http://apache.org/dav/props/" xmlns:ns0="DAV:">`
	st.response = `<D:response xmlns:lp1="DAV:" xmlns:lp2="http://apache.org/dav/props/" xmlns:lp3="LCGDM:">`
	return st
}

func listGo() listStyle {
	return listStyle{
		header: `<?xml version="1.0" encoding="UTF-8"?>`, p: "D",
		root:     `<D:multistatus xmlns:D="DAV:">`,
		prefixes: map[string]string{nsDAV: "D"}, inline: true,
		response: "<D:response>", long: true, quote: `"`, goPaths: true, typ: "text/xml; charset=utf-8",
	}
}

// href escapes a path for a href element, XML included.
func (st *listStyle) href(path string) string {
	if st.goPaths {
		return strings.ReplaceAll((&url.URL{Path: path}).EscapedPath(), "&", "&amp;")
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-.~()/", c) >= 0 {
			b.WriteByte(c)
		} else if strings.IndexByte(st.safe, c) >= 0 {
			b.WriteString(st.text(string(c)))
		} else {
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}
	return b.String()
}

// text escapes character data. What XML cannot hold becomes U+FFFD.
func (st *listStyle) text(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '"':
			b.WriteString(st.quote)
		case r == '\r':
			b.WriteString("&#13;")
		case r < ' ' && r != '\t' && r != '\n', r == 0xfffe, r == 0xffff:
			b.WriteRune('\ufffd')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// element writes a property; value is XML.
func (st *listStyle) element(name xml.Name, value string) string {
	tag, decl := name.Local, ""
	if prefix := st.prefixes[name.Space]; prefix != "" {
		tag = prefix + ":" + tag
	} else if st.inline || name.Space == "" {
		decl = ` xmlns="` + st.text(name.Space) + `"`
	} else {
		tag, decl = "x1:"+tag, ` xmlns:x1="`+st.text(name.Space)+`"`
	}
	if value == "" && !st.long {
		return "<" + tag + decl + "/>"
	}
	return "<" + tag + decl + ">" + value + "</" + tag + ">"
}

// propstat is a group of properties with one status.
type propstat struct {
	status int
	props  []string // elements
}

// listWriter writes one multistatus document piece by piece.
type listWriter struct {
	st  *listStyle
	out *bufio.Writer
}

func (l *listWriter) begin() { _, _ = l.out.WriteString(l.st.header + l.st.root + l.st.nl) }

func (l *listWriter) end() error {
	_, _ = l.out.WriteString("</" + l.st.p + ":multistatus>" + l.st.nl)
	return l.out.Flush()
}

// tag writes an element of the frame with XML inside.
func (l *listWriter) tag(name, inner string) {
	name = l.st.p + ":" + name + ">"
	_, _ = l.out.WriteString("<" + name + inner + "</" + name + l.st.nl)
}

// response writes one entry. Groups without properties are left out. The error is
// that of the connection.
func (l *listWriter) response(href string, groups ...propstat) error {
	_, err := l.out.WriteString(l.st.response + l.st.nl)
	l.tag("href", href)
	for _, g := range groups {
		if len(g.props) == 0 {
			continue
		}
		_, _ = l.out.WriteString("<" + l.st.p + ":propstat>" + l.st.nl + "<" + l.st.p + ":prop>" + l.st.nl)
		for _, e := range g.props {
			_, _ = l.out.WriteString(e + l.st.nl)
		}
		_, _ = l.out.WriteString("</" + l.st.p + ":prop>" + l.st.nl)
		l.tag("status", fmt.Sprintf("HTTP/1.1 %d %s", g.status, http.StatusText(g.status)))
		_, _ = l.out.WriteString("</" + l.st.p + ":propstat>" + l.st.nl)
	}
	_, _ = l.out.WriteString("</" + l.st.p + ":response>" + l.st.nl)
	return err
}
