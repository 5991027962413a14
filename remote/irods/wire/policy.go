package wire

import (
	"fmt"
	"strings"
)

// Policy is one end's will to use TLS.
type Policy uint8

// The policies. With PolicyNone a client does not negotiate and uses no TLS; servers
// that require TLS refuse it.
const (
	PolicyDontCare Policy = iota
	PolicyRequire
	PolicyRefuse
	PolicyNone
)

var policyNames = [...]string{
	PolicyDontCare: "CS_NEG_DONT_CARE", PolicyRequire: "CS_NEG_REQUIRE",
	PolicyRefuse: "CS_NEG_REFUSE", PolicyNone: "none",
}

// String returns the protocol's name, "CS_NEG_REQUIRE" for one.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return "unknown"
}

// ParsePolicy is the reverse of String. An empty text is PolicyDontCare, as in
// irods_environment.json.
func ParsePolicy(text string) (Policy, error) {
	if text == "" {
		return PolicyDontCare, nil
	}
	for p, name := range policyNames {
		if text == name {
			return Policy(p), nil
		}
	}
	return 0, fmt.Errorf("unknown TLS policy %q", text)
}

// Agree tells whether the connection uses TLS, and whether the two ends can agree at
// all. Two that do not care use it.
func Agree(client, server Policy) (useTLS, ok bool) {
	require := client == PolicyRequire || server == PolicyRequire
	refuse := client == PolicyRefuse || server == PolicyRefuse
	return !refuse, !(require && refuse)
}

// RequestNegotiation in StartupPack.Option asks the server to negotiate.
const RequestNegotiation = "request_server_negotiation"

// Results of a negotiation.
const (
	negResult  = "cs_neg_result_kw="
	negUseTLS  = "CS_NEG_USE_SSL"
	negUseTCP  = "CS_NEG_USE_TCP"
	negFailure = "CS_NEG_FAILURE"
	negSuccess = 1
)

// negotiated returns the client's result from its message: a list of keyword=value;
// or, from clients of version 4.0, the bare result.
func negotiated(result string) string {
	for _, pair := range strings.Split(result, ";") {
		if value, ok := strings.CutPrefix(pair, negResult); ok {
			return value
		}
	}
	return result
}

// wantsNegotiation tells whether a start-up pack asks for a negotiation.
func wantsNegotiation(option string) bool { return strings.Contains(option, RequestNegotiation) }
