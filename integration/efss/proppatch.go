package efss

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patchOp is one step of a PROPPATCH, in the order of the document.
type patchOp struct {
	remove bool
	prop   deadProp
}

// proppatch answers PROPPATCH. All steps are carried out or none.
func (q *request) proppatch() error {
	if q.b().deadProps == propsBad {
		return fail(http.StatusBadRequest, "Unsupported method")
	}
	var doc patchDoc
	if err := q.readXML(&doc); err != nil {
		return fail(http.StatusBadRequest, "The request body is not a valid propertyupdate: %v", err)
	}
	e, exists := q.present(q.path)
	if !exists {
		return q.notFound(q.path)
	}
	if err := errors.Join(q.checkOther(e, true), q.checkLock(q.path, false)); err != nil {
		return err
	}
	if e.ReadOnly {
		return forbidden()
	}
	statuses := q.patchStatuses(doc.ops)
	if q.b().deadProps == propsRefused && e.Dir && !q.anyProtected(doc.ops) {
		return fail(http.StatusInternalServerError, "a directory cannot be opened for writing")
	}
	if !slices.ContainsFunc(statuses, func(rc int) bool { return rc >= http.StatusMultipleChoices }) {
		if err := q.applyPatch(doc.ops); err != nil {
			return err
		}
	}
	return q.patchReply(doc.ops, statuses)
}

// patchStatuses decides on each step: 200 for all, or an error for some and 424 for
// the rest.
func (q *request) patchStatuses(ops []patchOp) []int {
	out, failed := make([]int, len(ops)), false
	refuseAll := q.b().deadProps == propsRefused && !q.anyProtected(ops)
	for i, op := range ops {
		if out[i] = http.StatusOK; op.remove && q.b().removedRC != 0 {
			out[i] = q.b().removedRC
		}
		if refuseAll || q.protected(op.prop.name()) {
			out[i], failed = q.b().readOnlyRC, true
		} else if q.isTimes(op.prop) && !op.remove {
			if _, err := strconv.ParseInt(strings.TrimSpace(op.prop.Value), 10, 64); err != nil {
				out[i], failed = http.StatusForbidden, true
			}
		}
	}
	for i, rc := range out {
		if failed && rc < http.StatusMultipleChoices {
			out[i] = http.StatusFailedDependency
		}
	}
	return out
}

// isTimes tells whether setting p sets the modification time.
func (q *request) isTimes(p deadProp) bool {
	return q.b().setTimes && p.Space == nsDAV && p.Local == "lastmodified"
}

func (q *request) anyProtected(ops []patchOp) bool {
	return slices.ContainsFunc(ops, func(op patchOp) bool { return q.protected(op.prop.name()) })
}

// protected tells whether the property is the server's own.
func (q *request) protected(name xml.Name) bool {
	switch name.Space {
	case nsDAV:
		switch name.Local {
		case "getetag", "getcontentlength", "getcontenttype", "resourcetype",
			"lockdiscovery", "supportedlock", "quota-available-bytes", "quota-used-bytes":
			return true
		case "getlastmodified":
			return q.b().setTimes
		}
	case nsOC:
		switch name.Local {
		case "id", "fileid", "permissions", "size", "checksums":
			return q.b().ids != idNone
		}
	}
	return false
}

// applyPatch carries the steps out. A dead property does not change any version.
func (q *request) applyPatch(ops []patchOp) error {
	for _, op := range ops {
		if q.isTimes(op.prop) {
			if op.remove {
				continue
			}
			seconds, _ := strconv.ParseInt(strings.TrimSpace(op.prop.Value), 10, 64)
			if _, err := q.s.store.setMTime(q.user, q.path, time.Unix(seconds, 0)); err != nil {
				return err
			}
			continue
		}
		_, err := q.s.store.edit(q.user, q.path, false, func(n *node) { n.Props = withProp(n.Props, op) })
		if err != nil {
			return err
		}
	}
	return nil
}

// withProp returns props after one step, as a new slice.
func withProp(props []deadProp, op patchOp) []deadProp {
	out := slices.Clone(props)
	i := slices.IndexFunc(out, func(p deadProp) bool { return p.name() == op.prop.name() })
	switch {
	case op.remove && i >= 0:
		out = slices.Delete(out, i, i+1)
	case op.remove:
	case i >= 0:
		out[i] = op.prop
	default:
		out = append(out, op.prop)
	}
	return out
}

func (q *request) patchReply(ops []patchOp, statuses []int) error {
	var groups []propstat
	for i, op := range ops {
		g := slices.IndexFunc(groups, func(g propstat) bool { return g.status == statuses[i] })
		if g < 0 {
			g = len(groups)
			groups = append(groups, propstat{status: statuses[i]})
		}
		groups[g].props = append(groups[g].props, q.b().list.element(op.prop.name(), ""))
	}
	out := q.multistatus()
	if err := out.list.response(q.b().list.href(q.base+q.requestPath()), groups...); err != nil {
		return err
	}
	return out.end()
}

// patchDoc is a propertyupdate element.
type patchDoc struct{ ops []patchOp }

// UnmarshalXML keeps the order of set and remove, which counts.
func (p *patchDoc) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	if start.Name != (xml.Name{Space: nsDAV, Local: "propertyupdate"}) {
		return errors.New("not a propertyupdate")
	}
	return eachChild(d, func(step xml.StartElement) error {
		remove := step.Name.Local == "remove"
		if step.Name.Space != nsDAV || !remove && step.Name.Local != "set" {
			return d.Skip()
		}
		return eachChild(d, func(xml.StartElement) error {
			return eachChild(d, func(prop xml.StartElement) error {
				value, err := innerXML(d)
				p.ops = append(p.ops, patchOp{remove, deadProp{prop.Name.Space, prop.Name.Local, value}})
				return err
			})
		})
	})
}

// eachChild calls f for each child element up to the end of the present one. f reads
// the child to its end.
func eachChild(d *xml.Decoder, f func(xml.StartElement) error) error {
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if err := f(t); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// innerXML reads up to the end of the present element and returns the content with
// every name space declared where it is used.
func innerXML(d *xml.Decoder) (string, error) {
	var b strings.Builder
	st := listStyle{quote: "&quot;", inline: true}
	var open []string
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		switch t := tok.(type) {
		case xml.CharData:
			b.WriteString(st.text(string(t)))
		case xml.StartElement:
			b.WriteString("<" + t.Name.Local + ` xmlns="` + st.text(t.Name.Space) + `"`)
			for _, a := range t.Attr {
				if a.Name.Space == "" && a.Name.Local != "xmlns" {
					b.WriteString(" " + a.Name.Local + `="` + st.text(a.Value) + `"`)
				}
			}
			b.WriteString(">")
			open = append(open, t.Name.Local)
		case xml.EndElement:
			if len(open) == 0 {
				return b.String(), nil
			}
			b.WriteString("</" + open[len(open)-1] + ">")
			open = open[:len(open)-1]
		}
	}
}
