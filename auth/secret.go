package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what a secret prints as, in every format.
const redacted = "***"

// HKDF info labels, one a purpose, so that no key serves two. A label never
// changes: what was signed or sealed under it would be lost.
const (
	// Each label derives a key for one use alone. Changing a label changes the key: what was sealed
	// or signed before is lost.
	labelToken = "pikarc/session-token/hs256/v1"
	labelSeal  = "pikarc/sealed-secret/aes-256-gcm/v1"
	labelCheck = "pikarc/secret-check/v1"
)

// ErrCannotOpen reports sealed bytes that do not authenticate: damaged, sealed
// for another context, or under another server secret.
var ErrCannotOpen = errors.New("cannot open sealed secret")

// errNoSecret keeps a forgotten LoadSecret from signing under an empty key.
var errNoSecret = errors.New("no server secret loaded")

// Secret is the server secret, from which all keys are derived. It never
// prints itself. The zero value derives nothing: every use of it is an error.
type Secret struct {
	// root is HKDF's pseudorandom key, 32 bytes. A pointer for the reason given
	// at APIKey.text, and to a string: fmt prints what a pointer to an array holds.
	root *string
}

// newSecret extracts a root key from the material, of whatever length that is (HKDF, RFC 5869).
func newSecret(material string) (Secret, error) {
	root, err := hkdf.Extract(sha256.New, []byte(material), nil)
	if err != nil {
		return Secret{}, fmt.Errorf("extract server secret: %w", err)
	}
	text := string(root)
	return Secret{root: &text}, nil
}

// derive returns the 32-byte key for one purpose.
func (s Secret) derive(label string) ([]byte, error) {
	if s.root == nil {
		return nil, errNoSecret
	}
	return hkdf.Expand(sha256.New, []byte(*s.root), label, 32)
}

// Seal encrypts plaintext with AES-256-GCM for later Open with the same
// context, e.g. the id of the row that keeps it, so that sealed bytes moved to
// another row do not open. The result is 12 bytes of random nonce, the
// ciphertext and 16 bytes of tag. Random nonces hold for 2^32 seals a secret.
func (s Secret) Seal(plaintext, context string) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead.Seal(nil, nil, []byte(plaintext), []byte(context)), nil
}

// Open returns what Seal sealed, or ErrCannotOpen.
func (s Secret) Open(sealed []byte, context string) (string, error) {
	aead, err := s.aead()
	if err != nil {
		return "", fmt.Errorf("open: %w", err)
	}
	plaintext, err := aead.Open(nil, nil, sealed, []byte(context))
	if err != nil {
		return "", ErrCannotOpen
	}
	return string(plaintext), nil
}

// Check is what a database keeps to know the secret again: it tells two secrets
// apart, and nothing of either can be derived from it.
func (s Secret) Check() ([]byte, error) { return s.derive(labelCheck) }

// aead returns AES-256-GCM with the key for sealing. Each use of the secret derives a key of its
// own by its label.
func (s Secret) aead() (cipher.AEAD, error) {
	key, err := s.derive(labelSeal)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// String redacts.
func (s Secret) String() string { return redacted }

// GoString redacts under %#v.
func (s Secret) GoString() string { return "auth.Secret(" + redacted + ")" }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON redacts.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
