package efss

import (
	"bufio"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxBody is the longest XML document that a request may bring.
const maxBody = 1 << 20

// wanted is what a PROPFIND asks for.
type wanted struct {
	names    []xml.Name // the properties, if all is false
	all      bool       // those that the dialect returns unasked, and names
	onlyName bool       // propname
}

// propfind answers PROPFIND.
func (q *request) propfind() error {
	want, err := q.propfindBody()
	if err != nil {
		return err
	}
	e, exists := q.present(q.path)
	if null := q.nullEntries(q.path); !exists && len(null) > 0 {
		e, exists = null[0], true
	}
	if !exists {
		for _, kv := range q.b().dav {
			if q.b().services {
				addRaw(q.w.Header(), kv[0], kv[1])
			}
		}
		return q.notFound(q.path)
	}
	depth, err := q.depth()
	if err != nil {
		return err
	}
	out := q.multistatus()
	if err := q.list(out.list, e, depth, want); err != nil {
		return err
	}
	q.extraResponses(out.list)
	return out.end()
}

// depth returns how far below the addressed entry the listing goes: 0, 1 or -1.
func (q *request) depth() (int, error) {
	text := q.header("Depth")
	if text == "" {
		text = q.b().noDepth
	}
	switch strings.ToLower(text) {
	case "0":
		return 0, nil
	case "1":
		return 1, nil
	case "infinity":
	default:
		return 0, fail(http.StatusBadRequest, "Invalid Depth header value: %s", text)
	}
	switch q.b().infinity {
	case depthRefuse:
		return 0, fail(http.StatusForbidden, `PROPFIND requests with a Depth of "infinity" are not allowed for %s.`, q.url(q.path, false))
	case depthBad:
		return 0, fail(http.StatusBadRequest, "Invalid Depth header value: infinity")
	case depthSelf:
		return 0, nil
	}
	return -1, nil
}

// list writes e and what is below it. Directories are written as they are met: memory
// grows with the number of entries of one directory only.
func (q *request) list(l *listWriter, e info, depth int, want wanted) error {
	if err := q.writeEntry(l, e, want); err != nil {
		return err
	}
	if !e.Dir || depth == 0 {
		return nil
	}
	for _, n := range q.s.store.children(q.user, e.Path) {
		child, ok := q.s.store.infoOf(n, e.Path)
		if !ok || q.b().names == namesApache && strings.HasPrefix(child.Name, ".davfs.tmp") {
			continue
		}
		below := 0
		if depth < 0 {
			below = -1
		}
		if err := q.list(l, child, below, want); err != nil {
			return err
		}
	}
	for _, null := range q.nullEntries(e.Path) {
		if err := q.writeEntry(l, null, want); err != nil {
			return err
		}
	}
	return nil
}

// writeEntry writes the response element of one entry.
func (q *request) writeEntry(l *listWriter, e info, want wanted) error {
	href := q.b().list.href(q.url(e.Path, e.Dir))
	if (q.b().names == namesRclone || q.b().names == namesReva) && strings.Contains(e.Name, "\n") {
		href += "<&" // these servers write such names unescaped: the document is broken
	}
	found, missing := q.properties(e, want)
	return l.response(href, propstat{http.StatusOK, found}, propstat{http.StatusNotFound, missing})
}

// properties returns the elements of the properties that e has and of those that it
// has not.
func (q *request) properties(e info, want wanted) (found, missing []string) {
	st := &q.b().list
	if st.nameOC && !want.all {
		found = append(found, st.element(xml.Name{Space: nsOC, Local: "name"}, st.text(e.Name)))
	}
	if want.all || q.b().fixedProps {
		found = q.allProperties(e, want.onlyName)
		if want.onlyName || q.b().fixedProps {
			return found, nil
		}
	}
	for _, name := range want.names {
		if value, ok := q.property(e, name); ok {
			found = append(found, st.element(name, value))
		} else {
			missing = append(missing, st.element(name, ""))
		}
	}
	return found, missing
}

// property returns a live or dead property as XML.
func (q *request) property(e info, name xml.Name) (string, bool) {
	if value, ok := q.live(e, name); ok {
		return value, true
	}
	for _, p := range e.Props {
		if p.name() == name {
			return p.Value, true
		}
	}
	return "", false
}

func (q *request) allProperties(e info, onlyNames bool) []string {
	st := &q.b().list
	names := liveNames(q.b())
	if q.b().dialect != Nextcloud || onlyNames {
		for _, p := range e.Props {
			names = append(names, p.name())
		}
	}
	var out []string
	for _, name := range names {
		value, ok := q.property(e, name)
		if !ok {
			continue
		}
		if onlyNames {
			value = ""
		}
		out = append(out, st.element(name, value))
	}
	return out
}

// propfindBody reads the request document. None means all properties.
func (q *request) propfindBody() (wanted, error) {
	var doc struct {
		XMLName  xml.Name  `xml:"DAV: propfind"`
		AllProp  *struct{} `xml:"DAV: allprop"`
		PropName *struct{} `xml:"DAV: propname"`
		Prop     *propList `xml:"DAV: prop"`
		Include  *propList `xml:"DAV: include"`
	}
	err := q.readXML(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return wanted{all: true}, nil
	case err != nil && !(errors.Is(err, errEmptyPrefix) && q.b().dialect == Rclone):
		return wanted{}, fail(http.StatusBadRequest, "This server only supports well-formed XML: %v", err)
	case doc.PropName != nil:
		return wanted{all: true, onlyName: true}, nil
	case doc.Prop != nil:
		return wanted{names: doc.Prop.names}, nil
	case doc.AllProp != nil && doc.Include != nil:
		return wanted{all: true, names: doc.Include.names}, nil
	}
	return wanted{all: true}, nil
}

// readXML decodes the body, which must hold one document. io.EOF means that it is
// empty.
func (q *request) readXML(into any) error {
	dec := xml.NewDecoder(io.LimitReader(q.r.Body, maxBody))
	if err := dec.Decode(into); err != nil {
		return err
	}
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, ok := tok.(xml.StartElement); ok {
			return errors.New("more than one document")
		}
	}
}

var errEmptyPrefix = errors.New("a prefix cannot stand for no name space")

// propList is a prop element of which only the names count.
type propList struct{ names []xml.Name }

// UnmarshalXML collects the names of the children.
func (p *propList) UnmarshalXML(d *xml.Decoder, _ xml.StartElement) error {
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			for _, a := range t.Attr {
				if a.Name.Space == "xmlns" && a.Value == "" {
					return errEmptyPrefix
				}
			}
			p.names = append(p.names, t.Name)
			if err := d.Skip(); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// multistatusOut is a multistatus answer under way.
type multistatusOut struct {
	list *listWriter
	zip  *gzip.Writer
}

// multistatus begins a 207, compressed if the client takes it.
func (q *request) multistatus() *multistatusOut {
	h := q.w.Header()
	for _, kv := range q.b().dav {
		addRaw(h, kv[0], kv[1])
	}
	q.set("Content-Type", q.b().list.typ)
	m := &multistatusOut{}
	var w io.Writer = q.w
	if q.acceptsGzip() {
		q.set("Content-Encoding", "gzip")
		h.Set("Vary", strings.TrimPrefix(h.Get("Vary")+",Accept-Encoding", ","))
		m.zip = gzip.NewWriter(q.w)
		w = m.zip
	}
	q.w.WriteHeader(http.StatusMultiStatus)
	m.list = &listWriter{st: &q.b().list, out: bufio.NewWriterSize(w, 32<<10)}
	m.list.begin()
	return m
}

func (q *request) acceptsGzip() bool {
	return !q.s.opts.NoGzip && q.b().gzip && strings.Contains(q.header("Accept-Encoding"), "gzip")
}

func (m *multistatusOut) end() error {
	err := m.list.end()
	if m.zip != nil {
		err = errors.Join(err, m.zip.Close())
	}
	return err
}
