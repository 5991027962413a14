package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Pair is a keyword and its value.
type Pair struct{ Key, Value string }

// KeyValPair is a list of conditions that qualify a call (KeyValPair_PI). The
// constants Kw... are its keywords; many are flags with an empty value.
type KeyValPair []Pair

func (*KeyValPair) pi() string { return "KeyValPair_PI" }

func (kv *KeyValPair) fields(c *codec) {
	n := len(*kv)
	c.int("ssLen", &n)
	if c.decode {
		*kv = makeList[Pair](c, n)
	}
	for i := range *kv {
		c.str("keyWord", &(*kv)[i].Key)
	}
	for i := range *kv {
		c.str("svalue", &(*kv)[i].Value)
	}
}

// Get returns the value of the first pair with the keyword.
func (kv KeyValPair) Get(key string) (string, bool) {
	for _, p := range kv {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// Has tells whether there is a pair with the keyword.
func (kv KeyValPair) Has(key string) bool {
	_, ok := kv.Get(key)
	return ok
}

// Set replaces the value of the keyword or adds a pair.
func (kv *KeyValPair) Set(key, value string) {
	for i := range *kv {
		if (*kv)[i].Key == key {
			(*kv)[i].Value = value
			return
		}
	}
	*kv = append(*kv, Pair{key, value})
}

// StartupPack opens a connection (StartupPack_PI).
type StartupPack struct {
	Protocol       int // 1: XML packing
	ReconnFlag     int
	ConnectCount   int
	ProxyUser      string
	ProxyZone      string
	ClientUser     string
	ClientZone     string
	ReleaseVersion string // "rods5.0.2"
	APIVersion     string // "d"
	// Option is the program's name; it contains RequestNegotiation to ask for one.
	Option string
}

func (*StartupPack) pi() string { return "StartupPack_PI" }

func (m *StartupPack) fields(c *codec) {
	c.int("irodsProt", &m.Protocol)
	c.int("reconnFlag", &m.ReconnFlag)
	c.int("connectCnt", &m.ConnectCount)
	c.str("proxyUser", &m.ProxyUser)
	c.str("proxyRcatZone", &m.ProxyZone)
	c.str("clientUser", &m.ClientUser)
	c.str("clientRcatZone", &m.ClientZone)
	c.str("relVersion", &m.ReleaseVersion)
	c.str("apiVersion", &m.APIVersion)
	c.str("option", &m.Option)
}

// Version answers StartupPack (Version_PI). A negative Status is an error code and
// ends the connection.
type Version struct {
	Status         int
	ReleaseVersion string // "rods5.0.2"
	APIVersion     string // "d"
	ReconnPort     int
	ReconnAddr     string
	Cookie         int
}

func (*Version) pi() string { return "Version_PI" }

func (m *Version) fields(c *codec) {
	c.int("status", &m.Status)
	c.str("relVersion", &m.ReleaseVersion)
	c.str("apiVersion", &m.APIVersion)
	c.int("reconnPort", &m.ReconnPort)
	c.str("reconnAddr", &m.ReconnAddr)
	c.int("cookie", &m.Cookie)
}

// csNeg is one step of the negotiation (CS_NEG_PI).
type csNeg struct {
	status int // 1 success, 0 failure
	result string
}

func (*csNeg) pi() string { return "CS_NEG_PI" }

func (m *csNeg) fields(c *codec) {
	c.int("status", &m.status)
	c.str("result", &m.result)
}

// ErrMsg is a text that comes with a reply (RErrMsg_PI).
type ErrMsg struct {
	Status int
	Text   string
}

func (*ErrMsg) pi() string { return "RErrMsg_PI" }

func (m *ErrMsg) fields(c *codec) {
	c.int("status", &m.Status)
	c.str("msg", &m.Text)
}

// RError is the error part of a reply (RError_PI).
type RError []ErrMsg

func (*RError) pi() string { return "RError_PI" }

func (m *RError) fields(c *codec) {
	n := len(*m)
	c.int("count", &n)
	if c.decode {
		*m = makeList[ErrMsg](c, n)
	}
	for i := range *m {
		c.sub(&(*m)[i])
	}
}

// MiscSvrInfo describes a server (MiscSvrInfo_PI), the answer of APIGetMiscSvrInfo,
// which needs no authentication.
type MiscSvrInfo struct {
	ServerType     int // 1: with the catalog
	BootTime       int // seconds since 1970
	ReleaseVersion string
	APIVersion     string
	Zone           string
	// Certinfo exists since 4.2 (facts on the TLS certificate); may be empty.
	CertInfo []byte
}

func (*MiscSvrInfo) pi() string { return "MiscSvrInfo_PI" }

func (m *MiscSvrInfo) fields(c *codec) {
	c.int("serverType", &m.ServerType)
	c.int("serverBootTime", &m.BootTime)
	c.str("relVersion", &m.ReleaseVersion)
	c.str("apiVersion", &m.APIVersion)
	c.str("rodsZone", &m.Zone)
	if c.decode && !c.has("BinBytesBuf_PI") {
		return
	}
	info := BinBytesBuf{Data: m.CertInfo}
	c.sub(&info)
	m.CertInfo = info.Data
}

// BinBytesBuf carries bytes as base64 (BinBytesBuf_PI). Calls with JSON use it; the
// server ends its JSON with a NUL.
type BinBytesBuf struct{ Data []byte }

func (*BinBytesBuf) pi() string { return "BinBytesBuf_PI" }

func (m *BinBytesBuf) fields(c *codec) {
	n := len(m.Data)
	c.int("buflen", &n)
	c.bin("buf", &m.Data)
	if c.decode && c.err == nil && n != len(m.Data) {
		c.fail("buflen is %d with %d bytes", n, len(m.Data))
	}
}

// NewJSON returns a BinBytesBuf that holds v as JSON.
func NewJSON(v any) (*BinBytesBuf, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &BinBytesBuf{Data: data}, nil
}

// JSON decodes the contents into v.
func (m *BinBytesBuf) JSON(v any) error { return decodeJSON(m.Data, v) }

// BytesBuf carries text as it is (BytesBuf_PI). Servers before 4.3 use it for JSON.
type BytesBuf struct{ Text string }

func (*BytesBuf) pi() string { return "BytesBuf_PI" }

func (m *BytesBuf) fields(c *codec) {
	n := len(m.Text)
	c.int("buflen", &n)
	c.str("buf", &m.Text)
}

// STR is a single string (STR_PI).
type STR struct{ Text string }

func (*STR) pi() string { return "STR_PI" }

func (m *STR) fields(c *codec) { c.str("myStr", &m.Text) }

// JSON decodes the text into v.
func (m *STR) JSON(v any) error { return decodeJSON([]byte(m.Text), v) }

// INT is a single number (INT_PI).
type INT struct{ Value int }

func (*INT) pi() string { return "INT_PI" }

func (m *INT) fields(c *codec) { c.int("myInt", &m.Value) }

// decodeJSON decodes what a server sent, which may end with a NUL.
func decodeJSON(data []byte, v any) error {
	if err := json.Unmarshal(bytes.TrimRight(data, "\x00"), v); err != nil {
		return fmt.Errorf("%w: %v", ErrPacking, err)
	}
	return nil
}
