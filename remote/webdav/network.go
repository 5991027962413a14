package webdav

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"

	"github.com/meshmount/meshmount/remote"
)

// networkKind grades an error of the network. What time does not heal is not
// Unavailable, so that nobody tries it again and again.
func networkKind(err error) remote.Kind {
	if unknownHost(err) || certificate(err) || notTLS(err) {
		return remote.Other
	}
	return remote.Unavailable
}

// notTLS tells whether the server does not speak TLS on this port.
func notTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch)
}

// unknownHost tells whether err says that the name of the host does not exist.
func unknownHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// certificate tells whether err is about the server's certificate.
func certificate(err error) bool {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	return errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host)
}
