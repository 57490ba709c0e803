package server

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// secureHeaders are on every answer. What the API answers is no page: a browser
// must not frame it, guess another type for it, or keep what it has read.
func (s *Server) secureHeaders(c *call) {
	h := c.w.Header()
	h["X-Content-Type-Options"] = noSniff
	h["Referrer-Policy"] = noReferrer
	if strings.HasPrefix(cmp.Or(c.route.path, c.r.URL.Path), "/v1/") {
		h["Cache-Control"] = noStore
		h["Content-Security-Policy"] = nothingAllowed
	}
	if c.r.TLS != nil {
		h["Strict-Transport-Security"] = oneYear
	}
}

// pageHeaders sets the headers that pages and files of the dashboard have in addition: a page may
// load and call this server alone.
func pageHeaders(h http.Header) {
	h.Set("Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
			"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("Permissions-Policy",
		"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// The names in secureHeaders are in their canonical form.
var (
	// Header values are shared by all answers, which saves an allocation for each. Nobody may
	// change them.
	closing        = []string{"close"}
	noReferrer     = []string{"no-referrer"}
	noSniff        = []string{"nosniff"}
	noStore        = []string{"no-store"}
	nothingAllowed = []string{"default-src 'none'; frame-ancestors 'none'"}
	oneYear        = []string{"max-age=31536000"}
)

// corsHeaders lets pages of the origins that the operator has named read the
// API's answers. There are no cookies, so no page can make a browser prove who
// its user is: credentials are not allowed, and a page must bring its own.
func (s *Server) corsHeaders(c *call) {
	if len(s.CORSOrigins) == 0 {
		return
	}
	h := c.w.Header()
	h.Add("Vary", "Origin")
	origin := c.r.Header.Get("Origin")
	if origin != "" && slices.Contains(s.CORSOrigins, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, Idempotent-Replay")
	}
}

// preflight answers the question that a browser asks before a page's call, if
// it is one and the page's origin is allowed.
func (s *Server) preflight(c *call) bool {
	asked := c.r.Header.Get("Access-Control-Request-Method")
	h := c.w.Header()
	if c.r.Method != http.MethodOptions || asked == "" ||
		h.Get("Access-Control-Allow-Origin") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers",
		"Authorization, Content-Type, Idempotency-Key, Pikarc-Client, X-Request-Id")
	h.Set("Access-Control-Max-Age", "600")
	c.status = http.StatusNoContent
	c.w.WriteHeader(c.status)
	return true
}
