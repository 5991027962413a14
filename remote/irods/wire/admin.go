package wire

import "strconv"

// ModAVUMetadataInp changes metadata (ModAVUMetadataInp_PI). Args are the command
// ("add", "set", "rm", "rmw", "mod", ...), the type ("-d" object, "-C" collection,
// "-R" resource, "-u" user), the name and the attribute, value and unit.
type ModAVUMetadataInp struct {
	Args [10]string
	Cond KeyValPair
}

func (*ModAVUMetadataInp) pi() string { return "ModAVUMetadataInp_PI" }

func (m *ModAVUMetadataInp) fields(c *codec) {
	c.args(m.Args[:], 0)
	c.late(&m.Cond)
}

// ModAccessControlInp changes permissions (modAccessControlInp_PI). Level is "own",
// "write", "modify_object", "read", "null", "inherit", "noinherit" and others; the
// prefix "admin:" uses an administrator's rights.
type ModAccessControlInp struct {
	Recursive int // 1: a collection with all below
	Level     string
	User      string
	Zone      string
	Path      string
}

func (*ModAccessControlInp) pi() string { return "modAccessControlInp_PI" }

func (m *ModAccessControlInp) fields(c *codec) {
	c.int("recursiveFlag", &m.Recursive)
	c.ptr("accessLevel", &m.Level)
	c.ptr("userName", &m.User)
	c.ptr("zone", &m.Zone)
	c.ptr("path", &m.Path)
}

// TicketAdminInp handles tickets (ticketAdminInp_PI). Args are the command
// ("session", "create", "mod", "delete") and its arguments.
type TicketAdminInp struct {
	Args [6]string
	Cond KeyValPair
}

func (*TicketAdminInp) pi() string { return "ticketAdminInp_PI" }

func (m *TicketAdminInp) fields(c *codec) {
	c.args(m.Args[:], 1)
	c.late(&m.Cond)
}

// GeneralAdminInp is an administrator's command (generalAdminInp_PI).
type GeneralAdminInp struct{ Args [10]string }

func (*GeneralAdminInp) pi() string { return "generalAdminInp_PI" }

func (m *GeneralAdminInp) fields(c *codec) { c.args(m.Args[:], 0) }

// UserAdminInp is a user's command on the own account (userAdminInp_PI).
type UserAdminInp struct{ Args [10]string }

func (*UserAdminInp) pi() string { return "userAdminInp_PI" }

func (m *UserAdminInp) fields(c *codec) { c.args(m.Args[:], 0) }

// EndTransactionInp ends a transaction of the catalog (endTransactionInp_PI).
type EndTransactionInp struct{ Args [2]string }

func (*EndTransactionInp) pi() string { return "endTransactionInp_PI" }

func (m *EndTransactionInp) fields(c *codec) { c.args(m.Args[:], 0) }

// args handles fields with the names arg0, arg1, ...
func (c *codec) args(args []string, first int) {
	for i := range args {
		c.ptr("arg"+strconv.Itoa(first+i), &args[i])
	}
}

// AuthRequestOut is the challenge of the older native authentication
// (authRequestOut_PI).
type AuthRequestOut struct{ Challenge []byte }

func (*AuthRequestOut) pi() string { return "authRequestOut_PI" }

func (m *AuthRequestOut) fields(c *codec) { c.bin("challenge", &m.Challenge) }

// AuthResponseInp is the answer to the challenge (authResponseInp_PI).
type AuthResponseInp struct {
	Response []byte // see ChallengeResponse
	Username string // "user#zone"
}

func (*AuthResponseInp) pi() string { return "authResponseInp_PI" }

func (m *AuthResponseInp) fields(c *codec) {
	c.bin("response", &m.Response)
	c.ptr("username", &m.Username)
}

// AuthPlugReqInp asks for an authentication plugin of servers before 4.3
// (authPlugReqInp_PI).
type AuthPlugReqInp struct{ Scheme, Context string }

func (*AuthPlugReqInp) pi() string { return "authPlugReqInp_PI" }

func (m *AuthPlugReqInp) fields(c *codec) {
	c.str("auth_scheme_", &m.Scheme)
	c.str("context_", &m.Context)
}

// AuthPlugReqOut is the answer to AuthPlugReqInp (authPlugReqOut_PI).
type AuthPlugReqOut struct{ Result string }

func (*AuthPlugReqOut) pi() string { return "authPlugReqOut_PI" }

func (m *AuthPlugReqOut) fields(c *codec) { c.str("result_", &m.Result) }

// PamAuthRequestInp logs in by PAM at servers before 4.3 (pamAuthRequestInp_PI). It
// holds the password: Conn sends it over TLS only.
type PamAuthRequestInp struct {
	User, Password string
	TTL            int // hours, 0 for the server's default
}

func (*PamAuthRequestInp) pi() string { return "pamAuthRequestInp_PI" }

func (m *PamAuthRequestInp) fields(c *codec) {
	c.ptr("pamUser", &m.User)
	c.ptr("pamPassword", &m.Password)
	c.int("timeToLive", &m.TTL)
}

// PamAuthRequestOut is the password, made by the server, to log in with
// (pamAuthRequestOut_PI).
type PamAuthRequestOut struct{ Password string }

func (*PamAuthRequestOut) pi() string { return "pamAuthRequestOut_PI" }

func (m *PamAuthRequestOut) fields(c *codec) { c.ptr("irodsPamPassword", &m.Password) }
