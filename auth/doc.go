// Package auth holds what proves who is calling and keeps what must stay secret: API keys, password
// hashes, session tokens and the server secret.
//
// It knows no SQL and no HTTP. Its types that carry secret material redact themselves in fmt, slog
// and JSON; the material leaves only through a method whose name says so.
//
//   - apikey.go: API keys
//   - password.go: password hashes, and how many are computed at once
//   - token.go: session tokens
//   - secret.go: keys derived from the server secret, and sealing
//   - secretfile.go: the file that the secret is in
package auth
