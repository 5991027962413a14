package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder keeps everything that crosses a connection.
type recorder struct {
	net.Conn
	mu   *sync.Mutex
	seen *bytes.Buffer
}

func (r recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.keep(p[:n])
	return n, err
}

func (r recorder) Write(p []byte) (int, error) {
	r.keep(p)
	return r.Conn.Write(p)
}

func (r recorder) keep(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Write(p)
}

// disguises returns the ways in which a text could hide in what was recorded.
func disguises(text string) map[string]string {
	all := map[string]string{
		"plain": text, "hex": hex.EncodeToString([]byte(text)), "escaped": string(Escape(nil, text)),
		"URL": url.QueryEscape(text), "half": text[:len(text)/2], "other half": text[len(text)/2:],
	}
	for shift := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		all["base64 "+string(rune('0'+shift))] = coded[4 : len(coded)-4]
	}
	return all
}

func finds(seen []byte, text string) (string, bool) {
	for how, disguise := range disguises(text) {
		if bytes.Contains(bytes.ToLower(seen), bytes.ToLower([]byte(disguise))) {
			return how, true
		}
	}
	return "", false
}

// TestPasswordStaysHere records whole connections, right and wrong password, both
// flows, and looks for the password in all that crossed the wire.
func TestPasswordStaysHere(t *testing.T) {
	ca := newAuthority(t)
	server := ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	for _, release := range []string{"rods5.0.2", "rods4.2.12"} {
		for _, password := range []string{testPassword, "quite-another-password"} {
			for _, policy := range []Policy{PolicyNone, PolicyRefuse, PolicyRequire} {
				seen := record(t, ServerConfig{Release: release, TLS: server}, ca, policy, password)
				if how, found := finds(seen, password); found {
					t.Errorf("%s, %s: the password crosses the wire (%s)", release, policy, how)
				}
				if !bytes.Contains(seen, []byte("tempZone")) {
					t.Fatal("the recording is empty")
				}
			}
		}
	}
}

// record connects and makes a call, and returns all bytes of both directions.
func record(t *testing.T, scfg ServerConfig, ca *authority, policy Policy, password string) []byte {
	t.Helper()
	var mu sync.Mutex
	var seen bytes.Buffer
	cfg := config(serve(t, scfg, echo))
	cfg.Policy, cfg.TLS = policy, &tls.Config{RootCAs: ca.roots}
	cfg.Password = func(context.Context) (string, error) { return password, nil }
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return recorder{nc, &mu, &seen}, err
	}
	c, err := Dial(t.Context(), cfg)
	if err == nil {
		_, err = c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}})
		_ = c.Close()
	}
	if (err == nil) != (password == testPassword) {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return bytes.Clone(seen.Bytes())
}

// TestDisguises proves that the search above can find something.
func TestDisguises(t *testing.T) {
	for _, prefix := range []string{"", "a", "ab", "abc"} {
		packed := Append(nil, &BinBytesBuf{Data: []byte(`{"` + prefix + `password":"` + testPassword + `"}`)})
		if how, found := finds(packed, testPassword); !found || !strings.HasPrefix(how, "base64") {
			t.Errorf("not found behind %q", prefix)
		}
	}
	if _, found := finds(Append(nil, &STR{Text: "x" + testPassword + "y"}), testPassword); !found {
		t.Error("not found as plain text")
	}
	if how, found := finds([]byte("nothing here"), testPassword); found {
		t.Errorf("found as %s in nothing", how)
	}
}
