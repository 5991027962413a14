package webdav

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Dial connects to the server of o.URL, finds out what it is and whether the root
// collection and the credentials are good. A wrong password is sent exactly once.
// Errors are *remote.Error of op "dial" and say what to do; Auth, NotExist, NotDir
// and Unavailable are the usual kinds.
func Dial(ctx context.Context, o Options) (*Backend, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, &remote.Error{Op: "dial", Kind: remote.Invalid, Err: err}
	}
	b, err := newBackend(o)
	if err != nil {
		return nil, &remote.Error{Op: "dial", Kind: remote.Invalid, Err: err}
	}
	b.traits, _ = rowOf(orDefault(o.Dialect, Unknown))
	ctx, release := b.bind(ctx)
	defer release()
	c := &call{b: b, op: "dial", path: "/"}
	if err := c.detect(ctx); err != nil {
		_ = b.Close() // nothing is under way
		return nil, dialError(o.URL, err)
	}
	b.info.Dialect = b.traits.name
	b.info.Auth = b.auth.method()
	b.info.Uploads = b.describeUploads()
	return b, nil
}

// dialError names the server and the remedy.
func dialError(u *url.URL, err error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err
	}
	hint := map[remote.Kind]string{
		remote.Auth:        "check the user and the password or token",
		remote.NotExist:    "there is no such collection; check the path of the URL",
		remote.NotDir:      "the URL names a file; give the folder that holds it",
		remote.Permission:  "this user may not list the collection",
		remote.Unsupported: "check that the URL is one for WebDAV",
		remote.Unavailable: "check host, port and network",
	}[e.Kind]
	switch {
	case certificate(err):
		hint = "the certificate is not trusted; give its CA file or have it renewed"
	case notTLS(err):
		hint = "the port does not speak TLS; check the port"
	case unknownHost(err):
		hint = "check the name of the host"
	case e.Kind == remote.Unavailable && statusOf(err) != 0:
		hint = "the server has trouble; try again later"
	}
	cause := e.Err
	if hint != "" {
		cause = fmt.Errorf("%w (%s)", orDefault(cause, error(e.Kind)), hint)
	}
	return &remote.Error{Op: "dial", Path: u.Host, Kind: e.Kind, Err: cause, RetryAfter: e.RetryAfter}
}

// detect fills in traits, root and info.
func (c *call) detect(ctx context.Context) error {
	status, err := c.fetchStatus(ctx)
	if err != nil {
		return err
	}
	if err := c.family(ctx, status); err != nil {
		return err
	}
	head, first, err := c.probeRoot(ctx)
	if err != nil {
		return err
	}
	if c.b.opts.Dialect == "" {
		if err := c.choose(ctx, status, head, first); err != nil {
			return err
		}
	}
	return c.plan(ctx, status, head)
}

// productStatus is /status.php of the Nextcloud and ownCloud family. It needs no
// login.
type productStatus struct {
	ProductName   string `json:"productname"`
	Product       string `json:"product"`
	Version       string `json:"versionstring"`
	RealVersion   string `json:"productversion"`
	Installed     bool   `json:"installed"`
	Maintenance   bool   `json:"maintenance"`
	NeedsDbUpgrad bool   `json:"needsDbUpgrade"`
}

// known tells whether the server is of that family.
func (s *productStatus) known() bool { return s.ProductName != "" }

func (s *productStatus) is(names ...string) bool {
	for _, name := range names {
		if strings.EqualFold(s.ProductName, name) || strings.EqualFold(s.Product, name) {
			return true
		}
	}
	return false
}

// markers end the part of a URL path that belongs to the installation.
var markers = []string{"/remote.php/", "/public.php/", "/index.php/", "/dav/", "/webdav/", "/ocs/"}

// installation returns the path under which status.php and ocs lie.
func installation(dir string) string {
	for _, m := range markers {
		if i := strings.Index(dir+"/", m); i >= 0 {
			return dir[:i]
		}
	}
	return ""
}

// site returns the URL of a document of the installation.
func (b *Backend) site(path string) string {
	return b.opts.URL.Scheme + "://" + b.opts.URL.Host + escape(installation(b.dir)) + path
}

// fetchStatus asks for status.php, without credentials. Any answer that is not the
// document means another kind of server; no answer at all is an error.
func (c *call) fetchStatus(ctx context.Context) (productStatus, error) {
	var s productStatus
	r := &request{method: http.MethodGet, url: c.b.site("/status.php"), header: map[string]string{"Accept": "application/json"}, repeats: true}
	before := time.Now()
	resp, err := c.once(ctx, r, r.url, &pass{a: c.b.noAuth})
	if err != nil {
		return s, err
	}
	defer closeBody(resp)
	c.b.noteClock(resp, before)
	if resp.StatusCode != http.StatusOK || readJSON(resp.Body, &s) != nil {
		return productStatus{}, nil
	}
	if s.known() && s.Maintenance {
		return s, &remote.Error{Op: c.op, Kind: remote.Unavailable, Err: errors.New(bounded(s.ProductName, 40) + " is in maintenance mode")}
	}
	return s, nil
}

// noteClock compares the server's clock with ours.
func (b *Backend) noteClock(resp *http.Response, before time.Time) {
	b.info.Protocol = resp.Proto
	if resp.ProtoMajor >= 2 && b.wide == nil {
		b.http.dialer.alone()
		b.wide = &wide{client: newClient(b.opts, b.roots, false)}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	middle := before.Add(time.Since(before) / 2)
	// Date is cut to the second: on average it is half a second behind.
	b.skew = date.Add(500 * time.Millisecond).Sub(middle)
	b.info.ClockSkew, b.info.SkewKnown = b.skew, true
}

// family does what only the Nextcloud and ownCloud family needs: find the user's
// files if the URL names none.
func (c *call) family(ctx context.Context, status productStatus) error {
	b := c.b
	if !status.known() {
		return nil
	}
	b.info.Product, b.info.Version = bounded(status.ProductName, 60), bounded(orDefault(status.RealVersion, status.Version), 60)
	b.auth.expectBasic()
	rest := strings.TrimPrefix(b.dir, installation(b.dir))
	legacy, isLegacy := strings.CutPrefix(rest+"/", "/remote.php/webdav/")
	if rest != "" && !(isLegacy && status.is("Nextcloud")) {
		return nil
	}
	id, err := c.userID(ctx)
	if err != nil {
		return err
	}
	b.info.UserID = id
	b.setRoot(installation(b.dir) + "/remote.php/dav/files/" + id + "/" + legacy)
	return nil
}

// probeRoot lists the root with depth 0 and checks that it is a collection. It
// returns the headers of the answer.
func (c *call) probeRoot(ctx context.Context) (http.Header, *response, error) {
	h := c.b.hrefs("")
	var head http.Header
	var self *response
	before := time.Now()
	err := c.propfind(ctx, c.b.dirURL("/"), "0", false, func(r *response, got http.Header) error {
		if name, err := h.resolve(r.href); err == nil && name == "" && self == nil {
			one := *r
			head, self = got, &one
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if self == nil {
		return nil, nil, c.failf(remote.Corrupt, "the server's answer is about other addresses; is there a proxy that changes paths?")
	}
	if !c.b.info.SkewKnown {
		c.b.noteClock(&http.Response{Header: head, Proto: c.b.info.Protocol}, before)
	}
	f, err := c.b.view("/", self, c.b.serverTime(head))
	switch {
	case err != nil:
		return nil, nil, c.fail(remote.Corrupt, err)
	case f.Type != remote.Dir:
		return nil, nil, c.fail(remote.NotDir, nil)
	}
	return head, self, nil
}

// choose finds the dialect by what the server has said so far, and by one OPTIONS
// request if that says nothing.
func (c *call) choose(ctx context.Context, status productStatus, head http.Header, first *response) error {
	name := dialectOf(status, head, first)
	var options http.Header
	if name == "" {
		var err error
		if options, err = c.options(ctx); err != nil {
			return err
		}
		name = dialectByOptions(options, c.b.auth)
	}
	c.b.traits, _ = rowOf(name)
	if allowed := strings.ToUpper(strings.Join(options.Values("Allow"), ",")); strings.Contains(allowed, "PROPFIND") && !strings.Contains(allowed, "PROPPATCH") {
		c.b.traits.deadProps = false // nginx, and lighttpd without a database
	}
	if server := head.Get("Server"); c.b.info.Product == "" {
		c.b.info.Product = bounded(server, 60)
	}
	return nil
}

// dialectOf reads status.php and the headers and properties of the first PROPFIND.
func dialectOf(status productStatus, head http.Header, first *response) string {
	server := strings.ToLower(head.Get("Server"))
	tus := head.Get("Tus-Resumable") != ""
	switch {
	case status.is("Nextcloud"):
		return Nextcloud
	case status.is("OpenCloud", "Infinite Scale", "oCIS"), status.is("ownCloud") && tus:
		return OCIS
	case tus:
		return Reva
	case strings.Contains(head.Get("Dav"), "nextcloud-"):
		return Nextcloud // status.php is hidden by the admin
	case status.known():
		return Unknown // classic ownCloud: nothing was measured on it
	case strings.HasPrefix(server, "xrootd"), first.props.iscollection != "" && first.props.etag == "":
		return XRootD
	case strings.HasPrefix(server, "rclone"):
		return Rclone
	}
	return ""
}

// options asks for OPTIONS of the root. A server that refuses it says nothing.
func (c *call) options(ctx context.Context) (http.Header, error) {
	resp, err := c.send(ctx, &request{method: http.MethodOptions, url: c.b.dirURL("/"), repeats: true})
	if err != nil {
		return nil, err
	}
	closeBody(resp)
	return resp.Header, nil
}

// allowGo is what golang.org/x/net/webdav, which rclone serves with, allows on a
// collection.
const allowGo = "OPTIONS, LOCK, DELETE, PROPPATCH, COPY, MOVE, UNLOCK, PROPFIND"

func dialectByOptions(h http.Header, auth *authorizer) string {
	dav := strings.Join(h.Values("Dav"), ",")
	server := strings.ToLower(h.Get("Server"))
	switch {
	case strings.Contains(dav, "apache.org/dav/propset") && !strings.Contains(server, "xrootd"):
		return ModDAV
	case h.Get("Allow") == allowGo, auth.realm() == "rclone":
		return Rclone
	}
	return Unknown
}
