package auth

// TokenKey is the key that tokens are signed under, for forging them in tests.
func TokenKey(s Secret) []byte {
	key, err := s.derive(labelToken)
	if err != nil {
		panic(err)
	}
	return key
}

// SealKey is the key that secrets are sealed under.
func SealKey(s Secret) []byte {
	key, err := s.derive(labelSeal)
	if err != nil {
		panic(err)
	}
	return key
}

// Root is what must never be printed of a Secret.
func Root(s Secret) []byte { return []byte(*s.root) }

// Derivation is one call of argon2 as a Hasher makes it.
type Derivation struct {
	Memory, Time uint32
	Threads      uint8
	SaltLen      int
	Size         uint32
	Password     string
}

// ErrMalformedHash lets tests tell a damaged hash from an ended context.
var ErrMalformedHash = errMalformedHash

// ReplaceArgon2 makes h call f in place of argon2.
func ReplaceArgon2(h *Hasher, f func(Derivation) []byte) {
	h.derive = func(password, salt []byte, p argonParams, size uint32) []byte {
		out := make([]byte, size)
		copy(out, f(Derivation{p.memory, p.time, p.threads, len(salt), size, string(password)}))
		return out
	}
}
