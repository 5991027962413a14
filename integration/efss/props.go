package efss

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// names returns property names of one name space.
func names(space string, locals ...string) []xml.Name {
	out := make([]xml.Name, len(locals))
	for i, l := range locals {
		out[i] = xml.Name{Space: space, Local: l}
	}
	return out
}

// liveNames are the properties that a PROPFIND without a body returns, by dialect.
func liveNames(b *behaviour) []xml.Name {
	switch b.dialect {
	case Nextcloud:
		return names(nsDAV, "getlastmodified", "getcontentlength", "resourcetype", "quota-used-bytes", "quota-available-bytes", "getetag", "getcontenttype")
	case OpenCloud:
		return append(names(nsOC, "id", "fileid", "name", "permissions", "size", "checksums"),
			names(nsDAV, "getetag", "resourcetype", "getcontentlength", "getcontenttype", "getlastmodified")...)
	case Reva:
		return append(names(nsOC, "name", "id", "permissions", "size"),
			names(nsDAV, "getetag", "resourcetype", "getcontentlength", "getcontenttype", "getlastmodified")...)
	case ModDAV:
		return slices.Concat(names(nsDAV, "resourcetype", "creationdate", "getcontentlength", "getlastmodified", "getetag"),
			names(nsApache, "executable"), names(nsDAV, "supportedlock", "lockdiscovery", "getcontenttype"))
	case XRootD:
		return names(nsDAV, "getcontentlength", "getlastmodified", "resourcetype", "iscollection", "executable")
	}
	return names(nsDAV, "displayname", "creationdate", "getcontentlength", "getcontenttype", "getlastmodified", "getetag", "resourcetype", "supportedlock", "lockdiscovery")
}

// live returns the value, as XML, of a property that the server makes itself.
func (q *request) live(e info, name xml.Name) (string, bool) {
	switch name.Space {
	case nsDAV:
		return q.liveDAV(e, name.Local)
	case nsOC:
		return q.liveOC(e, name.Local)
	case nsNC:
		return q.liveNC(e, name.Local)
	case nsApache:
		return "F", q.b().dialect == ModDAV && name.Local == "executable" && !e.Dir && e.ID != 0
	}
	return "", false
}

func (q *request) liveDAV(e info, local string) (string, bool) {
	st := &q.b().list
	if e.ID == 0 && local != "resourcetype" && local != "supportedlock" && local != "lockdiscovery" {
		return "", false // a lock-null resource
	}
	switch local {
	case "getetag":
		tag := q.b().quoted(e, q.now())
		return st.text(tag), tag != ""
	case "getlastmodified":
		return httpTime(e.MTime), true
	case "creationdate":
		return e.Created.UTC().Format("2006-01-02T15:04:05Z"), q.b().ids == idNone && q.b().dialect != Rclone
	case "getcontentlength":
		return fmt.Sprint(e.Size), !e.Dir
	case "getcontenttype":
		return q.typeProp(e), q.hasType(e)
	case "displayname":
		return st.text(q.displayName(e)), q.b().dialect != ModDAV && q.b().dialect != XRootD
	case "resourcetype":
		if e.Dir {
			return "<" + st.p + ":collection/>", true
		}
		return "", true
	case "iscollection":
		return map[bool]string{true: "1", false: "0"}[e.Dir], q.b().dialect == XRootD
	case "executable":
		return map[bool]string{true: "T", false: "F"}[e.Dir], q.b().dialect == XRootD
	case "quota-available-bytes", "quota-used-bytes":
		return q.quotaProp(e, local)
	case "supportedlock":
		return q.supportedLock()
	case "lockdiscovery":
		value, ok := q.lockDiscovery(e.Path)
		return value, ok && q.b().dialect != Rclone
	}
	return "", false
}

// displayName is the name, which rclone does not know for its root.
func (q *request) displayName(e info) string {
	if e.Path == "/" && q.b().dialect == Rclone {
		return ""
	}
	return e.Name
}

// typeProp is getcontenttype.
func (q *request) typeProp(e info) string {
	if t := contentType(e); q.b().dialect == Rclone && strings.HasPrefix(t, "text/") {
		return t + "; charset=utf-8"
	}
	return contentType(e)
}

// hasType tells whether getcontenttype is there.
func (q *request) hasType(e info) bool {
	if q.b().dialect == ModDAV {
		return e.Dir || contentType(e) != "application/octet-stream"
	}
	return !e.Dir
}

func (q *request) quotaProp(e info, local string) (string, bool) {
	if !e.Dir || q.b().quota == quotaNone {
		return "", false
	}
	if local == "quota-used-bytes" {
		return fmt.Sprint(q.shownSize(e)), true
	}
	if q.b().quota == quotaUnknown {
		return "-2", true
	}
	return fmt.Sprint(q.free()), true
}

// free returns the bytes that the user may still store, -3 for no limit.
func (q *request) free() int64 {
	limit := q.s.users[q.user].Quota
	if limit == 0 || q.b().quota != quotaNextcloud {
		return -3
	}
	return max(0, limit-q.s.store.used(q.user))
}

// shownSize is oc:size.
func (q *request) shownSize(e info) int64 {
	if e.Dir && q.b().dirSize >= 0 {
		return q.b().dirSize
	}
	return e.Size
}

func (q *request) liveOC(e info, local string) (string, bool) {
	if q.b().ids == idNone {
		return "", false
	}
	switch local {
	case "fileid":
		if q.b().ids == idNextcloud {
			return fmt.Sprint(e.ID), true
		}
		return q.fileID(e), true
	case "id":
		return q.fileID(e), true
	case "permissions":
		return q.permissions(e), true
	case "size":
		return fmt.Sprint(q.shownSize(e)), true
	case "name":
		return q.b().list.text(e.Name), q.b().ids != idNextcloud
	case "checksums":
		return q.b().list.checksums(e.Sum), e.Sum != "" && q.b().sums != sumsNone
	case "owner-id", "owner-display-name":
		return q.b().list.text(q.user), q.b().ids == idNextcloud
	}
	return "", false
}

func (st *listStyle) checksums(sum string) string {
	return st.element(xml.Name{Space: nsOC, Local: "checksum"}, st.text(sum))
}

func (q *request) liveNC(e info, local string) (string, bool) {
	if q.b().ids != idNextcloud {
		return "", false
	}
	switch local {
	case "upload_time":
		return fmt.Sprint(e.Uploaded), e.Uploaded != 0
	case "lock", "lock-token", "lock-owner", "lock-time", "lock-timeout":
		return q.lockProp(e, local)
	}
	return "", false
}

// permissions is oc:permissions.
func (q *request) permissions(e info) string {
	switch {
	case e.Dir && e.ReadOnly:
		return q.b().permReadDir
	case e.Dir:
		return q.b().permDir
	case e.ReadOnly:
		return q.b().permReadFile
	}
	return q.b().permFile
}

// fileID is oc:id, and OC-FileId in headers.
func (q *request) fileID(e info) string {
	switch q.b().ids {
	case idNextcloud:
		return fmt.Sprintf("%08d%s", e.ID, q.s.store.instance)
	case idOcis:
		// The real ones are UUIDs; all three parts are stable.
		u := hashed(q.s.store.instance + q.user)
		n := hashed(fmt.Sprint(q.s.store.instance, e.ID))
		return uuid(u[:32]) + "$" + uuid(hashed(u)) + "!" + uuid(n)
	case idPath:
		return "localhome-A$F5UG63LF!fileid-" + url.QueryEscape(q.user+e.Path)
	}
	return ""
}

func uuid(hex string) string {
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}

func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// contentType guesses from the name, as all of the servers do.
func contentType(e info) string {
	if e.Dir {
		return "httpd/unix-directory"
	}
	t, _, _ := strings.Cut(mime.TypeByExtension(path.Ext(e.Name)), ";")
	if t == "" {
		return "application/octet-stream"
	}
	return t
}

// headers writes what an answer tells of the file or directory it is about.
func (q *request) headers(style headerStyle, e info) {
	tag := q.b().quoted(e, q.now())
	switch style {
	case headersNextcloud:
		q.set("OC-FileId", q.fileID(e))
		if !e.Dir {
			q.set("OC-ETag", tag)
		}
	case headersOcis:
		q.set("Etag", tag)
		q.set("Oc-Etag", tag)
		q.set("Oc-Fileid", q.fileID(e))
	case headersETag:
		if tag != "" {
			q.set("Etag", tag)
		}
	case headersApache:
		q.set("ETag", tag)
	}
}

// wantDigest answers RFC 3230's header as XRootD does: one algorithm that it does
// not know spoils the request.
func wantDigest(want, disk string) (string, error) {
	var out []string
	for alg := range strings.SplitSeq(want, ",") {
		alg, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(alg)), ";")
		if alg != "adler32" && alg != "md5" {
			return "", fail(http.StatusInternalServerError, "unsupported digest")
		}
		sum, err := hashFile(disk, alg)
		if err != nil {
			return "", err
		}
		if alg == "md5" {
			out = append(out, "md5="+base64.StdEncoding.EncodeToString(sum))
		} else {
			out = append(out, fmt.Sprintf("adler32=%x", sum))
		}
	}
	return strings.Join(out, ","), nil
}
