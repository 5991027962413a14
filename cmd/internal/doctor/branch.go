package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/webdav"
)

// branch examines one branch. Once something fails, what depends on it is left out.
func (d *Doctor) branch(ctx context.Context, b *settings.Branch, given fetched) []Finding {
	c := chart{branch: b}
	c.add(certificate(ctx, b)...)
	if given.err != nil {
		c.add(fault("credentials", given.err))
		return c.findings
	}
	backend, err := d.dial(ctx, b, given.secret)
	if err != nil {
		c.add(fault(checkOf(err), err))
		return c.findings
	}
	defer func() { _ = backend.Close() }()
	c.add(about(backend, b)...)
	c.add(promises(backend.Caps()), access(ctx, backend, b))
	if f, known := quota(ctx, backend); known {
		c.add(f)
	}
	return c.findings
}

// about tells what Dial has found out.
func about(backend remote.Backend, b *settings.Branch) []Finding {
	switch backend := backend.(type) {
	case *webdav.Backend:
		info := backend.Info()
		return []Finding{identity(&info), login(b, info.Auth), clock(info.ClockSkew, info.SkewKnown)}
	case *irods.Backend:
		info := backend.Info()
		return []Finding{zoneIdentity(&info), encryption(b, info.TLS), login(b, info.Auth), clock(info.ClockSkew, info.SkewKnown), connections(b, info.RoundTrip)}
	}
	return nil
}

// chart collects the findings of a branch.
type chart struct {
	branch   *settings.Branch
	findings []Finding
}

func (c *chart) add(list ...Finding) {
	name := c.branch.Name
	if name == "" {
		name = "="
	}
	for _, f := range list {
		f.Branch = name
		f.Detail = strings.TrimPrefix(f.Detail, c.branch.Title()+": ")
		c.findings = append(c.findings, f)
	}
}

// checkOf names the check that an error of Dial belongs to.
func checkOf(err error) string {
	switch exit.CodeOf(err) {
	case exit.AuthFailed, exit.SecretMissing, exit.SecretUnusable:
		return "credentials"
	case exit.TLS:
		return "tls"
	}
	return "server"
}

// soon is how long before a certificate's end the doctor begins to warn.
const soon = 14 * 24 * time.Hour

// certificate tells how long the server's certificate holds. It asks without
// credentials and without judging the certificate: Dial does that.
func certificate(ctx context.Context, b *settings.Branch) []Finding {
	ask := sharePeer
	if b.Kind() == settings.Zone {
		ask = zonePeer
	}
	leaf, err := ask(ctx, b)
	if err != nil || leaf == nil {
		return nil // what is wrong will be told by Dial
	}
	f := Finding{Check: "certificate", Status: OK, Detail: fmt.Sprintf("of %s, valid until %s", leaf.Subject.CommonName, leaf.NotAfter.Format(time.DateOnly))}
	if len(leaf.DNSNames) > 0 {
		f.Detail = fmt.Sprintf("of %s, valid until %s", leaf.DNSNames[0], leaf.NotAfter.Format(time.DateOnly))
	}
	switch left := time.Until(leaf.NotAfter); {
	case left < 0:
		f.Status, f.Remedy = Fail, "tell the server's admin, and check this machine's clock"
	case left < soon:
		f.Status, f.Remedy = Warn, fmt.Sprintf("tell the server's admin: it expires in %d days", int(left.Hours()/24))
	}
	return []Finding{f}
}

// sharePeer returns the certificate a WebDAV server shows, nil without TLS.
func sharePeer(ctx context.Context, b *settings.Branch) (*x509.Certificate, error) {
	root, _, err := webdav.ParseURL(b.URL)
	if err != nil || root.Scheme != "https" {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*b.ConnectTimeout+time.Second)
	defer cancel()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// Nothing is sent that matters, and an expired certificate is to be seen.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, root.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close()
	if answer.TLS == nil || len(answer.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	return answer.TLS.PeerCertificates[0], nil
}

func identity(info *webdav.Info) Finding {
	product := strings.TrimSpace(info.Product + " " + info.Version)
	if product == "" {
		product = "a server that does not tell its name"
	}
	f := Finding{Check: "server", Status: OK, Detail: fmt.Sprintf("%s at %s, dialect %s, %s", product, info.Root, info.Dialect, info.Protocol)}
	if info.Dialect == webdav.Unknown {
		f.Status, f.Remedy = Warn, "the dialect was not recognised: only what every WebDAV server does is used; name it with --dialect if you know it"
	}
	return f
}

func login(b *settings.Branch, way string) Finding {
	if b.Credential.Kind == settings.Anonymous {
		return Finding{Check: "credentials", Status: OK, Detail: "none needed"}
	}
	return Finding{Check: "credentials", Status: OK, Detail: fmt.Sprintf("accepted (%s)", way)}
}

// drift is the difference of clocks from which the doctor warns: time stamps of
// files are compared with both.
const drift = 10 * time.Second

func clock(skew time.Duration, known bool) Finding {
	skew = skew.Round(time.Second)
	switch {
	case !known:
		return Finding{Check: "clock", Status: OK, Detail: "the server does not tell its time"}
	case skew.Abs() >= drift:
		return Finding{Check: "clock", Status: Warn, Detail: fmt.Sprintf("the server's clock differs from ours by %v", skew), Remedy: "check this machine's clock (chronyc tracking, timedatectl)"}
	}
	return Finding{Check: "clock", Status: OK, Detail: "agrees with ours to about a second"}
}

// promises says what the server is good for.
func promises(c remote.Caps) Finding {
	yes := func(ok bool, good, bad string) string {
		if ok {
			return good
		}
		return bad
	}
	f := Finding{Check: "promises", Status: OK, Detail: strings.Join([]string{
		yes(c.AtomicPut, "files are replaced atomically", "a file whose upload dies may be left torn"),
		"changes by others are noticed before an overwrite: " + c.Overwrite.String(),
		"exclusive creation: " + c.Create.String(),
		yes(c.Ranges, "parts of files can be read", "files are read from the start"),
		yes(c.StoresMTime, "times are kept", "times of files are not kept"),
		yes(c.StoresMode, "modes are kept", "modes are not kept"),
		yes(c.StoresSymlinks, "symbolic links are kept", "symbolic links are refused"),
	}, "; ")}
	if !c.AtomicPut || c.Overwrite == remote.GuardNone {
		f.Status, f.Remedy = Warn, "let only one client write to a file at a time"
	}
	return f
}

// access looks at the root of the branch.
func access(ctx context.Context, backend remote.Backend, b *settings.Branch) Finding {
	root, err := backend.Stat(ctx, "/")
	if err != nil {
		return fault("access", err)
	}
	caps := backend.Caps()
	switch {
	case b.ReadOnly || caps.ReadOnly:
		return Finding{Check: "access", Status: OK, Detail: "read-only"}
	case root.Access.Can(remote.AccessCreate) || root.Access.Can(remote.AccessWrite):
		return Finding{Check: "access", Status: OK, Detail: "reading and writing"}
	}
	return Finding{Check: "access", Status: Warn, Detail: "the server lets this user only read", Remedy: "mount it with --read-only, or ask the owner for more"}
}

// quota tells the space left, if the server tells it.
func quota(ctx context.Context, backend remote.Backend) (Finding, bool) {
	u, ok := remote.As[remote.Usager](backend)
	if !ok {
		return Finding{}, false
	}
	usage, err := u.Usage(ctx)
	switch {
	case err != nil:
		return fault("quota", err), true
	case usage.Available < 0 && usage.Used < 0:
		return Finding{}, false
	case usage.Available < 0:
		return Finding{Check: "quota", Status: OK, Detail: Bytes(usage.Used) + " used, no limit known"}, true
	case usage.Available < scarce:
		return Finding{Check: "quota", Status: Warn, Detail: "only " + Bytes(usage.Available) + " left", Remedy: "empty the server's trash bin, delete something, or ask for more"}, true
	}
	return Finding{Check: "quota", Status: OK, Detail: Bytes(usage.Available) + " left"}, true
}
