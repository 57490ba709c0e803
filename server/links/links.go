// Package links is the links in messages by which a person decides a review:
// what one says, how it is sealed, and the page that it leads to.
//
// A link is of one review, one verdict and one endpoint. It is good until the
// review is decided or its time is over, so nothing has to remember it. It is
// sealed under the server secret, so nobody can make one or change its verdict.
package links

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
)

// sealContext is what links are sealed for, so that nothing else that is sealed opens as one.
const sealContext = "review link v1"

// Link is what a link says.
type Link struct {
	Workspace int64 // internal id
	Expires   int64 // milliseconds
	Review    uuid.UUID
	Endpoint  uuid.UUID
	Address   Address
	Approve   bool
}

// Address tells the address that the link was sent to from all others: a link
// ends when its endpoint is given another one.
type Address [8]byte

// AddressOf is that of an endpoint.
func AddressOf(address string) Address {
	sum := sha256.Sum256([]byte(address))
	return Address(sum[:len(Address{})])
}

// Seal returns the link as a text for a URL.
func (l Link) Seal(secret auth.Secret) (string, error) {
	plain, err := binary.Append(nil, binary.BigEndian, l)
	if err != nil {
		return "", fmt.Errorf("write a link: %w", err)
	}
	sealed, err := secret.Seal(string(plain), sealContext)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// Open returns what a text from Seal says, or auth.ErrCannotOpen.
func Open(secret auth.Secret, text string) (l Link, err error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return l, auth.ErrCannotOpen
	}
	plain, err := secret.Open(sealed, sealContext)
	if err != nil {
		return l, err
	}
	if n, err := binary.Decode([]byte(plain), binary.BigEndian, &l); err != nil || n != len(plain) {
		return Link{}, auth.ErrCannotOpen
	}
	return l, nil
}
