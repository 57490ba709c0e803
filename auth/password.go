package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// argonParams are the cost parameters of one argon2id hash; memory is in KiB.
type argonParams struct {
	memory, time uint32
	threads      uint8
}

// Cost of new hashes (OWASP's first choice for argon2id) and the most that a
// stored hash may ask for, so that a planted row cannot exhaust the machine.
const (
	// Memory in KiB. The second value of each pair bounds what a stored hash may ask for, so that a
	// forged one cannot exhaust the server.
	argonMemory, maxArgonMemory   = 19 * 1024, 64 * 1024
	argonTime, maxArgonTime       = 2, 8
	argonThreads, maxArgonThreads = 1, 4

	saltBytes, minSaltBytes, maxSaltBytes = 16, 8, 64
	hashBytes, minHashBytes, maxHashBytes = 32, 16, 64
)

// errMalformedHash reports a stored hash that is no argon2id PHC string within
// bounds: a damaged row, not a wrong password.
var errMalformedHash = errors.New("malformed password hash")

// Hasher hashes and verifies passwords with argon2id. Each hash in progress
// holds 19 MiB, so a Hasher runs only so many at once; the others wait. One
// Hasher serves the whole process.
type Hasher struct {
	slots  chan struct{}
	decoy  string
	derive func(password, salt []byte, p argonParams, size uint32) []byte
}

// NewHasher makes a Hasher that runs at most parallel hashes at once (at least 1).
func NewHasher(parallel int) *Hasher {
	salt, hash := make([]byte, saltBytes), make([]byte, hashBytes)
	rand.Read(salt)
	rand.Read(hash)
	return &Hasher{
		slots:  make(chan struct{}, max(parallel, 1)),
		decoy:  encodeHash(currentParams(), salt, hash),
		derive: argon2id,
	}
}

// Hash returns the PHC string to store for password, in its normal form: what
// looks the same is the same, whatever keyboard and system typed it. The error
// is ctx's, when it ended before the hash's turn came.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	p := currentParams()
	hash, err := h.run(ctx, normalForm(password), salt, p, hashBytes)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return encodeHash(p, salt, hash), nil
}

// Verify reports whether password is the one behind encoded, a string made by
// Hash, or by a version that hashed passwords as they were typed. A wrong
// password is false without an error; an error means that nothing was learnt
// (ctx ended, or encoded is damaged).
func (h *Hasher) Verify(ctx context.Context, encoded, password string) (bool, error) {
	p, salt, want, err := decodeHash(encoded)
	if err != nil {
		return false, fmt.Errorf("verify password: %w", err)
	}
	forms := []string{normalForm(password)}
	if forms[0] != password {
		forms = append(forms, password)
	}
	matched := 0
	for _, form := range forms { // all of them, so that the time does not tell which it was
		got, err := h.run(ctx, form, salt, p, uint32(len(want)))
		if err != nil {
			return false, fmt.Errorf("verify password: %w", err)
		}
		matched |= subtle.ConstantTimeCompare(got, want)
	}
	return matched == 1, nil
}

// normalForm is that of Unicode for identifiers and passwords (NFKC).
func normalForm(password string) string { return norm.NFKC.String(password) }

// VerifyNone does all the work of Verify for an account that does not exist, so
// that the time of an answer does not tell which emails are registered.
func (h *Hasher) VerifyNone(ctx context.Context, password string) error {
	_, err := h.Verify(ctx, h.decoy, password)
	return err
}

// run waits for a slot. Argon2 itself cannot be interrupted.
func (h *Hasher) run(
	ctx context.Context, password string, salt []byte, p argonParams, size uint32,
) ([]byte, error) {
	// select picks at random between a free slot and an ended ctx.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	return h.derive([]byte(password), salt, p, size), nil
}

// argon2id computes a hash of this size in bytes.
func argon2id(password, salt []byte, p argonParams, size uint32) []byte {
	return argon2.IDKey(password, salt, p.time, p.memory, p.threads, size)
}

// currentParams are those of new hashes. Older hashes carry their own.
func currentParams() argonParams {
	return argonParams{memory: argonMemory, time: argonTime, threads: argonThreads}
}

// encodeHash writes the PHC string format, whose base64 has no padding.
func encodeHash(p argonParams, salt, hash []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		p.memory, p.time, p.threads, b64.EncodeToString(salt), b64.EncodeToString(hash))
}

// decodeHash parses a PHC string, $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func decodeHash(encoded string) (p argonParams, salt, hash []byte, err error) {
	fields := strings.Split(encoded, "$")
	if len(fields) != 6 {
		return p, nil, nil, fmt.Errorf("%w: no PHC string", errMalformedHash)
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &p.memory, &p.time,
		&p.threads); err != nil {
		return p, nil, nil, fmt.Errorf("%w: parameters unreadable", errMalformedHash)
	}
	b64 := base64.RawStdEncoding
	salt, saltErr := b64.DecodeString(fields[4])
	hash, hashErr := b64.DecodeString(fields[5])
	if saltErr != nil || hashErr != nil {
		return p, nil, nil, fmt.Errorf("%w: salt or hash unreadable", errMalformedHash)
	}
	// One text per hash: another algorithm or version ends here, and so does
	// what Sscanf and base64 forgive (signs, trailing bytes, line breaks).
	if encodeHash(p, salt, hash) != encoded {
		return p, nil, nil, fmt.Errorf("%w: not argon2id in canonical form", errMalformedHash)
	}
	if !p.withinBounds() ||
		len(salt) < minSaltBytes || len(salt) > maxSaltBytes || len(hash) < minHashBytes ||
		len(hash) > maxHashBytes {
		return p, nil, nil, fmt.Errorf("%w: parameters out of bounds", errMalformedHash)
	}
	return p, salt, hash, nil
}

// withinBounds also keeps argon2 from panicking (time and threads of 0), and
// holds to RFC 9106's minimum of 8 KiB a thread.
func (p argonParams) withinBounds() bool {
	return p.threads >= 1 && p.threads <= maxArgonThreads &&
		p.time >= 1 && p.time <= maxArgonTime &&
		p.memory >= 8*uint32(p.threads) && p.memory <= maxArgonMemory
}
