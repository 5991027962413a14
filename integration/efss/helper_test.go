package efss

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// world is a running server with one user and a client for it.
type world struct {
	*Running
	t    testing.TB
	user string
	// app is the user's app password.
	app string
}

// start runs a server of a dialect in a temporary directory.
func start(t testing.TB, d Dialect, change ...func(*Options)) *world {
	t.Helper()
	opts := Options{Dir: t.TempDir(), Dialect: d,
		Users: []User{{Name: "alice", Password: "alice-login", AppPassword: "alice-app", Token: "alice-token"}}}
	for _, c := range change {
		c(&opts)
	}
	r, err := Start(opts, StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{Running: r, t: t, user: "alice", app: "alice-app"}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

// do sends a request. url is a path below the user's root, or a URL path when it
// begins with "//". headers are name, value pairs.
func (w *world) do(method, url, body string, headers ...string) answer {
	w.t.Helper()
	full := strings.TrimSuffix(w.DAVURL(w.user), "/") + url
	if strings.HasPrefix(url, "//") {
		full = w.BaseURL + url[1:]
	}
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, full, in)
	if err != nil {
		w.t.Fatal(err)
	}
	req.SetBasicAuth(w.user, w.app)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Transfer-Encoding" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), -1
		}
		if headers[i] == "Authorization" && headers[i+1] == "" {
			req.Header.Del("Authorization")
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(method, url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(method, url, err)
	}
	return answer{resp, string(text)}
}

// want is do with an expected status.
func (w *world) want(status int, method, url, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(method, url, body, headers...)
	if a.StatusCode != status {
		w.t.Fatalf("%s %s %q: got %d, want %d\n%s", method, url, headers, a.StatusCode, status, a.body)
	}
	return a
}

// dest is a Destination header for a path below the user's root.
func (w *world) dest(path string) string { return strings.TrimSuffix(w.DAVURL(w.user), "/") + path }
