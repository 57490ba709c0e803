package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
)

// A key is lg_, a public prefix by which it is found and named, and a secret part of 256 bits, both
// in hexadecimal.
const (
	keyScheme      = "lg_"
	keyPrefixBytes = 4
	keySecretBytes = 32
	keyPrefixEnd   = len(keyScheme) + 2*keyPrefixBytes
	keyTextLen     = keyPrefixEnd + len("_") + 2*keySecretBytes
)

// ErrMalformedKey reports a text that is no API key. It never repeats the text.
var ErrMalformedKey = errors.New("malformed API key")

// APIKey is a full API key, lg_<8 hex>_<64 hex>, as its owner sends it.
// The zero value is no key and matches no hash.
type APIKey struct {
	// Prefix is the 8 hex digits by which a stored key is found. It is not secret.
	Prefix string
	// text sits behind a pointer because fmt cannot call String on an
	// unexported field of another struct, but prints a pointer as an address.
	text *string
}

// NewAPIKey makes a key of 32 random bytes under a random prefix. Prefixes can
// collide (32 bits), so whoever stores the key keeps them unique.
func NewAPIKey() APIKey {
	var random [keyPrefixBytes + keySecretBytes]byte
	rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	prefix := hex.EncodeToString(random[:keyPrefixBytes])
	text := keyScheme + prefix + "_" + hex.EncodeToString(random[keyPrefixBytes:])
	return APIKey{Prefix: prefix, text: &text}
}

// ParseAPIKey accepts exactly what NewAPIKey makes: one text per key, so no
// upper-case digits and no surrounding space. Otherwise ErrMalformedKey.
func ParseAPIKey(s string) (APIKey, error) {
	if len(s) != keyTextLen || !LooksLikeAPIKey(s) || s[keyPrefixEnd] != '_' {
		return APIKey{}, ErrMalformedKey
	}
	prefix, secret := s[len(keyScheme):keyPrefixEnd], s[keyPrefixEnd+1:]
	if !isLowerHex(prefix) || !isLowerHex(secret) {
		return APIKey{}, ErrMalformedKey
	}
	return APIKey{Prefix: prefix, text: &s}, nil
}

// LooksLikeAPIKey reports whether s carries the key scheme, which tells a key
// (even a malformed one) from a JWT.
func LooksLikeAPIKey(s string) bool {
	return strings.HasPrefix(s, keyScheme)
}

// Hash is what is stored of a key: SHA-256 of its full text. The secret has
// 256 random bits, so a slow password hash would add nothing.
func (k APIKey) Hash() [32]byte {
	return sha256.Sum256([]byte(k.Reveal()))
}

// Matches compares the key with a stored hash in constant time.
func (k APIKey) Matches(hash []byte) bool {
	if k.text == nil {
		return false
	}
	own := k.Hash()
	return subtle.ConstantTimeCompare(own[:], hash) == 1
}

// Reveal returns the full text: only for its owner's eyes and for sealing.
func (k APIKey) Reveal() string {
	if k.text == nil {
		return ""
	}
	return *k.text
}

// String shows the prefix only.
func (k APIKey) String() string { return keyScheme + k.Prefix + "_" + redacted }

// GoString shows the prefix only, under %#v too.
func (k APIKey) GoString() string { return "auth.APIKey(" + k.String() + ")" }

// LogValue shows the prefix only.
func (k APIKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// isLowerHex reports whether a text has only lower-case hexadecimal digits: a key has one spelling.
func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
