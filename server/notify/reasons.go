package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// reasonOf says why there was no answer and what to look at, without the URL, which may hold a
// secret. What it does not know it repeats.
func reasonOf(err error) string {
	var u *url.Error
	isURL := errors.As(err, &u)
	if isURL && u.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + attemptTimeout.String() +
			": is it running, and may this server reach it?"
	}
	if isURL {
		err = u.Err
	}
	for _, say := range []func(error) string{nameReason, certificateReason, connectionReason} {
		if reason := say(err); reason != "" {
			return reason
		}
	}
	return cut(err.Error(), maxAnswer)
}

// nameReason is the reason where a name could not be resolved.
func nameReason(err error) string {
	var dns *net.DNSError
	switch {
	case !errors.As(err, &dns):
		return ""
	case dns.IsNotFound:
		return "nobody has the name " + cut(dns.Name, maxName) + ": check it for a typing error"
	default:
		return "the name " + cut(dns.Name, maxName) + " could not be looked up: check the DNS of this server"
	}
}

// maxName is the length of the longest name in DNS.
const maxName = 253

// certificateReason is the reason where the endpoint does not prove who it is.
func certificateReason(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "its certificate is from no authority that this server trusts"
	case errors.As(err, &name):
		return "its certificate is for another name: check the URL"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet"
	case errors.As(err, &invalid):
		return "its certificate is not valid"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS there: check the port of the URL"
	default:
		return ""
	}
}

// connectionReason is the reason where there was no connection, or it broke.
func connectionReason(err error) string {
	var op *net.OpError
	where := "there"
	if errors.As(err, &op) && op.Op == "dial" && op.Addr != nil {
		where = "at " + op.Addr.String()
	}
	switch {
	case errors.Is(err, errForbiddenAddress) && op != nil:
		return op.Err.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens " + where + ": is it running, and is the port right?"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "this server has no route to it: check its network"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection without an answer"
	default:
		return ""
	}
}

// statusReason says what an answer that is no success means.
func statusReason(status int) string {
	meaning := ""
	switch {
	case status >= 300 && status < 400:
		meaning = ": redirects are not followed, give the address they lead to"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		meaning = ": it does not let this server in; check the URL and its token"
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		meaning = ": nothing takes messages there; check the URL"
	case status == http.StatusGone:
		meaning = ": it wants no more messages"
	case status == http.StatusTooManyRequests:
		meaning = ": it gets more than it takes"
	case status >= 500:
		meaning = ": it has a fault of its own"
	}
	return fmt.Sprintf("answered %d%s", status, meaning)
}
