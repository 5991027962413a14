package webdav

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// readBuffer is the size of the buffer before each connection, in bytes. Bodies of known
// length are read past it once more than that is wanted.
const readBuffer = 64 << 10

// client sends requests over connections of its own.
type client struct {
	*http.Client
	dialer *dialer
}

// newClient returns a client: pooled, proxies from the environment, time-outs on
// everything but bodies. Redirects are not followed here, see exchange. With http2 it
// speaks HTTP/2 where the server offers it. The windows of net/http for that (4 MiB for
// each stream, 1 GiB for the connection) are what long ways need and stay as they are.
func newClient(o Options, roots *x509.CertPool, http2 bool) client {
	d := newDialer(o.ConnectTimeout, o.MaxConns)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    o.ConnectTimeout,
		Protocols:              &protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		MaxConnsPerHost:        o.MaxConns,
		MaxIdleConns:           2 * o.MaxConns, // the data gateway of a tus server is another host
		MaxIdleConnsPerHost:    o.MaxConns,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  o.AnswerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		ReadBufferSize:         readBuffer,
		WriteBufferSize:        64 << 10,
	}
	return client{dialer: d, Client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// close closes what nobody uses; nothing may be under way.
func (c client) close() {
	c.dialer.close()
	c.CloseIdleConnections()
}

// wide is a second client, for large bodies where the server speaks HTTP/2. All that
// goes over one connection of HTTP/2 shares one window of TCP: over 50 ms and 4 MiB
// eight streams together got 79 MB/s, and eight connections of HTTP/1.1 146, with 1.8 s
// of CPU for 1 GiB in place of 3.1. And for uploads servers grant a stream 64 KiB at
// once (Apache, nginx).
type wide struct {
	client
	faults atomic.Int32 // requests that found a way only by HTTP/2
}

const (
	wideBody   = 1 << 20 // bytes from which on a body is large
	wideFaults = 3       // so many faults, and HTTP/1.1 is given up
)

// takes tells whether a body of size bytes should go over it. One of just wideBody, as
// the first of a file mostly is, does not wait until the first connection is made.
func (w *wide) takes(size int64) bool {
	return w != nil && size >= wideBody && w.faults.Load() < wideFaults && (size > wideBody || w.dialer.busy())
}

// certPool returns the system's roots with those of file added; nil means the
// system's alone.
func certPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA file %s holds no certificate in PEM form", file)
	}
	return pool, nil
}
