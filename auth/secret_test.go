package auth_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/pikarc/server/auth"
)

func TestSealedSecretsOpenToTheSameText(t *testing.T) {
	secret := testSecret(t)
	rapid.Check(t, func(t *rapid.T) {
		plaintext := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plaintext"))
		context := string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "context"))
		sealed, err := secret.Seal(plaintext, context)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != 12+len(plaintext)+16 {
			t.Fatalf("%d bytes sealed to %d, want nonce and tag more", len(plaintext), len(sealed))
		}
		if got, err := secret.Open(sealed, context); err != nil || got != plaintext {
			t.Fatalf("opened %q, error %v", got, err)
		}
	})
}

func TestSealedSecretWithAnyBitChangedDoesNotOpen(t *testing.T) {
	secret := testSecret(t)
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.String().Draw(t, "plaintext")
		sealed, err := secret.Seal(plaintext, "key 1")
		if err != nil {
			t.Fatal(err)
		}
		i := rapid.IntRange(0, len(sealed)*8-1).Draw(t, "bit")
		sealed[i/8] ^= 1 << (i % 8)
		if got, err := secret.Open(sealed, "key 1"); !errors.Is(err, auth.ErrCannotOpen) || got != "" {
			t.Fatalf("opened %q, error %v, want ErrCannotOpen", got, err)
		}
	})
}

func TestSealedSecretOpensOnlyWholeInItsContextUnderItsSecret(t *testing.T) {
	secret := testSecret(t)
	other, err := auth.LoadSecret(t.TempDir(), envSecret+"!")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := secret.Seal(sampleKey, "key 1")
	if err != nil {
		t.Fatal(err)
	}
	for _, context := range []string{"", "key 2", "key 1 ", "key"} {
		if _, err := secret.Open(sealed, context); !errors.Is(err, auth.ErrCannotOpen) {
			t.Errorf("in context %q: %v, want ErrCannotOpen", context, err)
		}
	}
	if _, err := other.Open(sealed, "key 1"); !errors.Is(err, auth.ErrCannotOpen) {
		t.Errorf("under another secret: %v, want ErrCannotOpen", err)
	}
	for i := range sealed {
		if _, err := secret.Open(sealed[:i], "key 1"); !errors.Is(err, auth.ErrCannotOpen) {
			t.Errorf("cut to %d bytes: %v, want ErrCannotOpen", i, err)
		}
		if _, err := secret.Open(sealed[i+1:], "key 1"); !errors.Is(err, auth.ErrCannotOpen) {
			t.Errorf("without its first %d bytes: %v, want ErrCannotOpen", i+1, err)
		}
	}
	if _, err := secret.Open(append(bytes.Clone(sealed), 0), "key 1"); !errors.Is(err, auth.ErrCannotOpen) {
		t.Errorf("with a byte more: %v, want ErrCannotOpen", err)
	}
}

func TestSealingTwiceGivesDifferentBytes(t *testing.T) {
	secret, nonces := testSecret(t), map[string]bool{}
	for range 1000 {
		sealed, err := secret.Seal(sampleKey, "key 1")
		if err != nil {
			t.Fatal(err)
		}
		nonces[string(sealed[:12])] = true
	}
	if len(nonces) != 1000 {
		t.Errorf("1000 seals used %d nonces: a repeated one breaks GCM", len(nonces))
	}
}

// The bytes and keys are pinned, from an independent implementation: a release
// that derived or sealed in another way would lose every stored key.
func TestSealedFormatIsStable(t *testing.T) {
	secret := testSecret(t)
	for name, key := range map[string]struct {
		got  []byte
		want string
	}{
		"token": {auth.TokenKey(secret), "481df786a849b822c841370d6a93056b128261a1808f0cdd714a753e2ba59614"},
		"seal":  {auth.SealKey(secret), "c8b1c15eadd07c1d59f07264a0be785efbd836ae63ad3130403a69fa05fd020d"},
	} {
		if hex.EncodeToString(key.got) != key.want {
			t.Errorf("%s key %x, want %s", name, key.got, key.want)
		}
	}
	sealed, err := hex.DecodeString("000102030405060708090a0b77dd9ed682d008552779cb66da14a322059d373f909186c8bc6862e2a0b493734941bc922e1462c144c1da46")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := secret.Open(sealed, "key 1"); err != nil || got != "an older release sealed this" {
		t.Errorf("opened %q, error %v", got, err)
	}
}

func TestZeroSecretSealsNothing(t *testing.T) {
	var none auth.Secret
	if sealed, err := none.Seal("text", "context"); err == nil {
		t.Errorf("sealed to %x under no secret", sealed)
	}
	_, err := none.Open(make([]byte, 64), "context")
	if err == nil || errors.Is(err, auth.ErrCannotOpen) {
		t.Errorf("error %v: want one that does not blame the sealed bytes", err)
	}
}
