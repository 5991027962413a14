package integration_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// wireTap is a TCP proxy that keeps all bytes of both directions.
type wireTap struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu      sync.Mutex
	streams []*bytes.Buffer // two for each connection: from the client, from the server
	open    []net.Conn
}

// tap listens before a server until the test ends.
func tap(t *testing.T, target string) *wireTap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &wireTap{listener: l, target: target}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.done.Wait()
	})
	return p
}

func (p *wireTap) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		p.done.Go(func() { p.copy(server, client) })
		p.done.Go(func() { p.copy(client, server) })
	}
}

// copy forwards one direction and keeps it.
func (p *wireTap) copy(to, from net.Conn) {
	kept := &bytes.Buffer{}
	p.mu.Lock()
	p.streams = append(p.streams, kept)
	p.mu.Unlock()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		kept.Write(buf[:n])
		p.mu.Unlock()
		if _, writing := to.Write(buf[:n]); err != nil || writing != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}

// bytes returns the streams so far.
func (p *wireTap) bytes() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all [][]byte
	for _, s := range p.streams {
		all = append(all, bytes.Clone(s.Bytes()))
	}
	return all
}

// secretForms are the ways in which a password could stand on the wire: itself, coded, or
// by a digest that is as good as itself; and the forms of its longer halves, so that one
// that is cut in two is seen.
func secretForms(password string) map[string][]byte {
	forms := map[string][]byte{}
	add := func(what string, b []byte) {
		forms[what] = b
		forms[what+" in hex"] = []byte(hex.EncodeToString(b))
		forms[what+" in HEX"] = []byte(strings.ToUpper(hex.EncodeToString(b)))
		forms[what+" in base32"] = []byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
		for shift := range 3 { // it may stand anywhere in what was coded
			for kind, coding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
				coded := coding.EncodeToString(append(make([]byte, shift), b...))
				inner := coded[(shift*8+5)/6 : (shift+len(b))*8/6]
				forms[what+" in "+kind+" at "+string('0'+rune(shift))] = []byte(inner)
			}
		}
	}
	padded := make([]byte, 50)
	copy(padded, password)
	digest, ofPadded := md5.Sum([]byte(password)), md5.Sum(padded)
	back := []byte(password)
	slices.Reverse(back)
	add("password", []byte(password))
	add("first half", []byte(password[:len(password)/2]))
	add("second half", []byte(password[len(password)/2:]))
	add("password backwards", back)
	add("password as UTF-16", []byte(strings.Join(strings.Split(password, ""), "\x00")))
	add("MD5", digest[:])
	add("MD5 of the padded password", ofPadded[:])
	forms["password in a query"] = []byte(url.QueryEscape(password))
	forms["password in a path"] = []byte(url.PathEscape(password))
	forms["password in XML"] = []byte(strings.NewReplacer("&", "&amp;", "<", "&lt;", "'", "&apos;", `"`, "&quot;").Replace(password))
	return forms
}

// coded returns the runs of a stream that may be base64.
func coded(stream []byte) (runs [][]byte) {
	const least = 8
	from := 0
	for i, b := range stream {
		if inBase64[b] {
			continue
		}
		if i-from >= least {
			runs = append(runs, stream[from:i])
		}
		from = i + 1
	}
	if len(stream)-from >= least {
		runs = append(runs, stream[from:])
	}
	return runs
}

// inBase64 are the digits of base64 and base64url.
var inBase64 = func() (digits [256]bool) {
	for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-") {
		digits[b] = true
	}
	return digits
}()

// findSecret looks for a password in a stream, and in what is base64 in it, and in what
// is base64 in that. It returns the form in which it stands there, "" for none.
func findSecret(stream []byte, password string) string {
	forms := secretForms(password)
	for range 3 {
		for what, form := range forms {
			if bytes.Contains(stream, form) {
				return what
			}
		}
		var inner []byte
		for _, run := range coded(stream) {
			run = run[:len(run)/4*4]
			for _, coding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				if b, err := coding.DecodeString(string(run)); err == nil {
					inner = append(append(inner, b...), '\n')
				}
			}
		}
		stream = inner
	}
	return ""
}

// TestFindSecret makes sure that the capture test would see a password.
func TestFindSecret(t *testing.T) {
	const password = "c0rrect'horse&Battery<staple"
	sum := md5.Sum([]byte(password))
	std := base64.StdEncoding.EncodeToString
	json := []byte(`{"user_name":"alice","a_pw":"` + password + `"}`)
	for what, text := range map[string]string{
		"clear": password, "hex": hex.EncodeToString([]byte(password)), "query": url.QueryEscape(password), "path": url.PathEscape(password),
		"base64": std([]byte(password)), "in base64": std(json), "twice": std([]byte(std(json))), "url": base64.URLEncoding.EncodeToString(json),
		"md5": string(sum[:]), "md5 hex": hex.EncodeToString(sum[:]), "md5 base64": std(sum[:]), "half": password[:15],
	} {
		if findSecret([]byte("<a>"+text+"</a>"), password) == "" {
			t.Errorf("%s is not found", what)
		}
	}
	for _, text := range []string{"", "correct horse", std([]byte("nothing of that kind")), strings.Repeat("Lorem ipsum ", 1000)} {
		if what := findSecret([]byte(text), password); what != "" {
			t.Errorf("%s is found in %.20q", what, text)
		}
	}
}

// TestZoneCapture works on a mounted zone without TLS, and with a wrong password, and
// looks at every byte between the program and the zone: nothing of the password is among
// them.
func TestZoneCapture(t *testing.T) {
	t.Parallel()
	const password = "c0rrect'horse&Battery<staple"
	z, err := zone.Start(zone.Options{Dir: t.TempDir(), Policy: wire.PolicyRefuse, Accounts: []zone.Account{{Name: "alice", Password: password}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	line := tap(t, z.Addr())
	branch := "a=" + zoneURL(z, line.listener.Addr().String(), "alice")
	m := harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=" + password}, branch)
	useZone(t, filepath.Join(m.Dir, "a"))
	if err := syscall.Setxattr(filepath.Join(m.Dir, "a", "g"), "user.irods.colour", []byte("blue"), 0); err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
	streams := line.bytes()
	all := bytes.Join(streams, []byte("\n"))
	for _, part := range []string{"<type>RODS_CONNECT</type>", "<clientUser>alice</clientUser>", "marked content", "<type>RODS_API_REPLY</type>"} {
		if !bytes.Contains(all, []byte(part)) {
			t.Errorf("%q is not in the capture of %d bytes", part, len(all))
		}
	}
	if z.Logins() != len(streams)/2 {
		t.Errorf("%d connections were captured, but the zone has seen %d", len(streams)/2, z.Logins())
	}
	for _, stream := range streams {
		if what := findSecret(stream, password); what != "" {
			t.Errorf("%s is on the wire", what)
		}
	}
	wrong := "wr0ng'" + password
	failed, err := harness.Start(t.Context(), harness.Spec{Binary: harness.Program(t), Dir: t.TempDir(), Args: []string{branch},
		Env: []string{"MESHMOUNT_PASSWORD_A=" + wrong}, Log: filepath.Join(t.TempDir(), "log")})
	if err == nil {
		failed.Destroy()
		t.Error("the wrong password mounts")
	}
	for _, stream := range line.bytes()[len(streams):] {
		if what := findSecret(stream, wrong); what != "" {
			t.Errorf("%s, a wrong one, is on the wire", what)
		}
	}
	if tries := len(line.bytes())/2 - len(streams)/2; tries != 1 {
		t.Errorf("%d connections for a wrong password", tries)
	}
}

// useZone does a bit of everything on a branch.
func useZone(t *testing.T, dir string) {
	t.Helper()
	big := bytes.Repeat([]byte("\x01\x02\x03 marked\xff\xfe\xfd"), 5<<20/16) // in pieces
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.WriteFile(filepath.Join(dir, "d", "f"), []byte("marked content"), 0o600),
		os.WriteFile(filepath.Join(dir, "big"), big, 0o644),
		os.Rename(filepath.Join(dir, "d", "f"), filepath.Join(dir, "g")),
		os.Symlink("g", filepath.Join(dir, "link")),
		os.Chmod(filepath.Join(dir, "g"), 0o755),
		os.Remove(filepath.Join(dir, "d")),
	)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	got, err := io.ReadAll(file)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
