// Package acme holds the test of certificates that the server gets by itself.
// It is a module of its own because the certificate authority that it runs,
// pebble, is needed by nothing else.
package acme
