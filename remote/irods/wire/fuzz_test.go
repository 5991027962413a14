package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// seeds adds the messages of both ends in the recordings to the corpus.
func seeds(f *testing.F, add func(header, msg []byte)) {
	files, err := filepath.Glob("testdata/irods-5.0.2/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var head []byte
		for _, line := range strings.Split(string(data), "\n") {
			switch {
			case strings.HasPrefix(line, "C> "), strings.HasPrefix(line, "S> "):
				head = unquote(line[3:])
				add(head, nil)
			case strings.HasPrefix(line, "   msg: "):
				add(head, unquote(line[8:]))
			}
		}
	}
}

// FuzzUnpack unpacks arbitrary bytes as every message. What can be unpacked must come
// out the same when packed and unpacked again.
func FuzzUnpack(f *testing.F) {
	seeds(f, func(_, msg []byte) { f.Add(msg) })
	f.Add([]byte("<KeyValPair_PI><ssLen>999999999</ssLen></KeyValPair_PI>"))
	f.Add([]byte("<STR_PI><myStr>&amp;&lt;&#39;</myStr></STR_PI>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range allMessages() {
			_ = unpackRequest(data, m)
			if Unpack(data, m) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
			if err := Unpack(AppendLines(nil, m), again); err != nil {
				t.Fatalf("%s: %v", m.pi(), err)
			}
			if packed := Append(nil, again); !bytes.Equal(packed, Append(nil, m)) {
				t.Fatalf("%s: %s is not %s", m.pi(), packed, Append(nil, m))
			}
		}
	})
}

// FuzzHeader reads arbitrary bytes as a header: never more than its limits allow.
func FuzzHeader(f *testing.F) {
	seeds(f, func(head, msg []byte) {
		f.Add(append([]byte{0, 0, byte(len(head) >> 8), byte(len(head))}, head...))
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Msg: 1000, Error: 100, Bytes: 10}
		h, err := readHeader(bytes.NewReader(data), limits)
		if err == nil && (h.msgLen < 0 || h.msgLen > 1000 || h.errLen < 0 || h.errLen > 100 || h.bsLen < 0 || h.bsLen > 10) {
			t.Fatalf("%+v", h)
		}
	})
}

// script is a connection whose other end has said everything already.
type script struct{ io.Reader }

func (script) Write(p []byte) (int, error)      { return len(p), nil }
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return nil }
func (script) RemoteAddr() net.Addr             { return nil }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }

// FuzzReply lets a client read arbitrary bytes as the answer to a call.
func FuzzReply(f *testing.F) {
	seeds(f, func(head, msg []byte) {
		frame := append([]byte{0, 0, byte(len(head) >> 8), byte(len(head))}, head...)
		f.Add(append(frame, msg...))
	})
	f.Add(appendFrame(nil, header{kind: typeAPIReply, intInfo: statusCollStat}, &CollOprStat{}, true))
	f.Fuzz(func(t *testing.T, data []byte) {
		nc := script{bytes.NewReader(data)}
		c := &Conn{limits: Limits{Msg: 1 << 20}.withDefaults(), raw: nc, nc: nc}
		c.r = bufio.NewReader(progressReader{c})
		into := make([]byte, 16)
		reply, err := c.Call(t.Context(), &Call{API: APIGenQuery, Out: &GenQueryOut{}, Into: into})
		var refused *Error
		var broken *BrokenError
		switch {
		case err == nil && (reply.Status < 0 || reply.N > len(into)):
			t.Fatalf("%+v", reply)
		case err != nil && !errors.As(err, &refused) && !errors.As(err, &broken):
			t.Fatalf("%T %v", err, err)
		case c.Broken() != errors.As(err, &broken):
			t.Fatalf("broken %v with %v", c.Broken(), err)
		}
	})
}

// FuzzSession lets a server read arbitrary bytes from a client, who must not get to log
// in by them.
func FuzzSession(f *testing.F) {
	start := appendFrame(nil, header{kind: typeConnect}, &StartupPack{Protocol: 1, ProxyUser: "rods"}, false)
	f.Add(start)
	f.Add(appendFrame(bytes.Clone(start), header{kind: typeAPIReq, intInfo: APIAuthRequest}, nil, false))
	f.Add(appendFrame(bytes.Clone(start), header{kind: typeAPIReq, intInfo: APIAuthResponse}, &AuthResponseInp{}, false))
	seeds(f, func(head, msg []byte) {
		frame := append(bytes.Clone(start), 0, 0, byte(len(head)>>8), byte(len(head)))
		f.Add(append(append(frame, head...), msg...))
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := ServerConfig{Password: func(string, string) (string, bool) { return testPassword, true }}
		cfg.Limits = Limits{Msg: 1 << 20, Bytes: 1 << 20}
		s, err := Accept(t.Context(), script{bytes.NewReader(data)}, cfg)
		if err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		for {
			r, err := s.Next()
			if err != nil {
				return
			}
			if s.User() != "" || r.API != APIGetMiscSvrInfo {
				t.Fatalf("call %d by %q", r.API, s.User())
			}
			if err := s.Reply(0, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
