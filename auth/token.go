package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Errors of Parse for a token that is refused; any other is an internal error.
var (
	// ErrInvalidToken reports a token that this server did not issue, or that was changed.
	ErrInvalidToken = errors.New("invalid token")
	// ErrExpiredToken reports an authentic token that has expired.
	ErrExpiredToken = errors.New("token has expired")
)

const (
	// maxTokenBytes bounds the JSON that is decoded before the signature can be checked.
	maxTokenBytes = 8 << 10
	// maxClockSkew is how far ahead iat may lie: a clock that was set back by
	// more than this ends the tokens issued before, or they would outlive their TTL.
	maxClockSkew = time.Minute
)

// SessionID identifies a session among those of its account.
type SessionID [16]byte

// NewSessionID makes the id of a new session.
func NewSessionID() (id SessionID) {
	rand.Read(id[:])
	return id
}

// Claims are what a session token says. Version is the account's token version
// when it was issued: the caller refuses a token whose version is not the
// account's present one, or whose session has been ended. Times are UTC, whole seconds.
type Claims struct {
	Account, Workspace  string
	Session             SessionID
	Version             int64
	IssuedAt, ExpiresAt time.Time
}

// wireClaims distinguishes an absent ver from 0.
type wireClaims struct {
	jwt.RegisteredClaims
	Workspace string `json:"ws"`
	Version   *int64 `json:"ver"`
}

// Tokens issues and checks session tokens: JWT, HS256 and nothing else, under
// a key derived from the server secret.
type Tokens struct {
	secret Secret
	ttl    time.Duration
	now    func() time.Time
}

// NewTokens makes Tokens whose tokens live for ttl, counted in whole seconds, by the clock now.
func NewTokens(secret Secret, ttl time.Duration, now func() time.Time) *Tokens {
	return &Tokens{secret: secret, ttl: ttl, now: now}
}

// TTL is how long an issued token lives.
func (t *Tokens) TTL() time.Duration { return t.ttl }

// Expiry is when a token that is issued now expires.
func (t *Tokens) Expiry() time.Time { return t.now().Truncate(time.Second).Add(t.ttl) }

// Left is how long a token that expires then still lives, in whole seconds.
func (t *Tokens) Left(expires time.Time) time.Duration {
	return expires.Sub(t.now().Truncate(time.Second))
}

// Issue signs the token of an account's session in its workspace.
func (t *Tokens) Issue(
	session SessionID, account, workspace string, version int64,
) (token string, err error) {
	return t.IssueUntil(t.Expiry(), session, account, workspace, version)
}

// IssueUntil is Issue for a session that ends when it was to end before.
func (t *Tokens) IssueUntil(
	expires time.Time, session SessionID, account, workspace string, version int64,
) (token string, err error) {
	if account == "" || workspace == "" {
		return "", errors.New("issue token: account and workspace are required")
	}
	key, err := t.secret.derive(labelToken)
	if err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, wireClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        hex.EncodeToString(session[:]), // so that one session can be ended alone
			Subject:   account,
			IssuedAt:  jwt.NewNumericDate(t.now().Truncate(time.Second)),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
		Workspace: workspace,
		Version:   &version,
	}).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	return token, nil
}

// Parse checks signature, algorithm and times, and returns what the token
// says. It fails with ErrExpiredToken or ErrInvalidToken. Claims it does not
// know are ignored. It does not know the account's token version: see Claims.
func (t *Tokens) Parse(token string) (Claims, error) {
	key, err := t.secret.derive(labelToken)
	if err != nil {
		return Claims{}, fmt.Errorf("parse token: %w", err)
	}
	// The base64 decoder skips line breaks, which would give one token many texts.
	if len(token) > maxTokenBytes || strings.ContainsAny(token, "\r\n") {
		return Claims{}, ErrInvalidToken
	}
	now := t.now()
	var wire wireClaims
	_, err = jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	).ParseWithClaims(token, &wire, func(*jwt.Token) (any, error) { return key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired): // the signature was checked before the times
		return Claims{}, ErrExpiredToken
	case err != nil:
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	case wire.Subject == "" || wire.Workspace == "" || wire.Version == nil || wire.IssuedAt == nil:
		return Claims{}, fmt.Errorf("%w: claim missing", ErrInvalidToken)
	case wire.IssuedAt.After(now.Add(maxClockSkew)):
		return Claims{}, fmt.Errorf("%w: issued in the future", ErrInvalidToken)
	}
	session, err := sessionOf(token, wire.ID)
	if err != nil {
		return Claims{}, err
	}
	return Claims{
		Session:   session,
		Account:   wire.Subject,
		Workspace: wire.Workspace,
		Version:   *wire.Version,
		IssuedAt:  wire.IssuedAt.UTC(),
		ExpiresAt: wire.ExpiresAt.UTC(),
	}, nil
}

// sessionOf returns a token's id. A token of an older version has none, and is
// identified by a hash of its text.
func sessionOf(token, id string) (session SessionID, err error) {
	if id == "" {
		sum := sha256.Sum256([]byte(token))
		return SessionID(sum[:len(session)]), nil
	}
	read, err := hex.DecodeString(id)
	if err != nil || len(read) != len(session) {
		return session, fmt.Errorf("%w: its id is none of this server's", ErrInvalidToken)
	}
	return SessionID(read), nil
}
