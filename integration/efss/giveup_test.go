package efss

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestGiveUp: a gateway answers, and the server goes on behind it.
func TestGiveUp(t *testing.T) {
	w := start(t, Nextcloud)
	w.SetFaults(only("MKCOL", &Fault{GiveUp: http.StatusGatewayTimeout, Behind: 50 * time.Millisecond}))
	if status, _, err := w.try("MKCOL", "/d", ""); status != http.StatusGatewayTimeout || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	for end := time.Now().Add(4 * time.Minute); ; {
		status, _, err := w.try("PROPFIND", "/d", "")
		if err == nil && status == http.StatusMultiStatus {
			return
		}
		if err != nil || status != http.StatusNotFound || time.Now().After(end) {
			t.Fatalf("%d, %v", status, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestHang: nothing comes until the client gives up, and nothing is done.
func TestHang(t *testing.T) {
	w := start(t, Nextcloud)
	w.SetFaults(only("PUT", &Fault{Hang: true}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "PUT", w.dest("/f"), strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(w.user, w.app)
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("answered %s", resp.Status)
	}
	w.SetFaults(nil)
	w.want(http.StatusNotFound, "GET", "/f", "")
}

// TestTusDefer: the length comes with the last part, where the options allow it.
func TestTusDefer(t *testing.T) {
	meta := tusMeta("filename", "f")
	deferred := []string{"Tus-Resumable", "1.0.0", "Upload-Defer-Length", "1", "Upload-Metadata", meta}
	start(t, OpenCloud).want(http.StatusPreconditionFailed, "POST", "/", "", deferred...)

	w := start(t, OpenCloud, func(o *Options) { o.DeferLength = true })
	a := w.want(http.StatusCreated, "POST", "/", "", deferred...)
	url := "/" + strings.TrimPrefix(a.Header.Get("Location"), w.BaseURL)
	w.tusPatch(http.StatusNoContent, url, 0, "one ")
	head := w.want(http.StatusOK, "HEAD", url, "", "Tus-Resumable", "1.0.0", "Authorization", "").Header
	if head.Get("Upload-Defer-Length") != "1" || head.Get("Upload-Length") != "" || head.Get("Upload-Offset") != "4" {
		t.Errorf("%v", head)
	}
	w.want(http.StatusNotFound, "GET", "/f", "")
	w.tusPatch(http.StatusNoContent, url, 4, "two", "Upload-Length", "7")
	if got := w.read("/f"); got != "200 one two" {
		t.Error(got)
	}
}
