package auth_test

import (
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pikarc/server/auth"
)

const (
	sampleSecret = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"
	sampleKey    = "lg_0a1b2c3d_" + sampleSecret
)

func TestNewAPIKeyHasTheDocumentedFormAndParses(t *testing.T) {
	form := regexp.MustCompile(`^lg_([0-9a-f]{8})_[0-9a-f]{64}$`)
	var digits [76]map[byte]bool // those seen at each position
	for i := range digits {
		digits[i] = map[byte]bool{}
	}
	for range 100 {
		key := auth.NewAPIKey()
		match := form.FindStringSubmatch(key.Reveal())
		if match == nil || match[1] != key.Prefix {
			t.Fatalf("key %q with prefix %q is not lg_<prefix>_<secret>", key.Reveal(), key.Prefix)
		}
		for i := range digits {
			digits[i][key.Reveal()[i]] = true
		}
		parsed, err := auth.ParseAPIKey(key.Reveal())
		if err != nil || parsed.Reveal() != key.Reveal() || parsed.Prefix != key.Prefix {
			t.Fatalf("parsed to %q, prefix %q, error %v", parsed.Reveal(), parsed.Prefix, err)
		}
	}
	for i, seen := range digits {
		if fixed := i < 3 || i == 11; !fixed && len(seen) < 8 {
			t.Errorf("position %d took %d values in 100 keys: it is not random", i, len(seen))
		}
	}
}

func TestParseAPIKeyRefusesEveryOtherText(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                 "",
		"scheme only":           "lg_",
		"other scheme":          "sk_" + sampleKey[3:],
		"upper-case scheme":     "LG_" + sampleKey[3:],
		"upper-case prefix":     "lg_0A1B2C3D_" + sampleSecret,
		"upper-case secret":     "lg_0a1b2c3d_" + strings.ToUpper(sampleSecret),
		"prefix not hex":        "lg_0a1b2c3g_" + sampleSecret,
		"secret not hex":        "lg_0a1b2c3d_" + sampleSecret[:63] + "g",
		"no second separator":   "lg_0a1b2c3d0" + sampleSecret,
		"separator moved left":  "lg_0a1b2c3_d" + sampleSecret,
		"one digit short":       sampleKey[:len(sampleKey)-1],
		"one digit more":        sampleKey + "0",
		"leading space":         " " + sampleKey,
		"trailing newline":      sampleKey + "\n",
		"NUL in place of digit": "lg_0a1b2c3d_" + sampleSecret[:63] + "\x00",
		"wide digits":           "lg_0a1b2c3d_" + sampleSecret[:61] + "3",
		"just below the digits": "lg_0a1b2c3d_" + sampleSecret[:63] + "/",
		"just above the digits": "lg_0a1b2c3d_" + sampleSecret[:63] + ":",
		"just below a":          "lg_0a1b2c3d_" + sampleSecret[:63] + "`",
		"a JWT":                 "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
	} {
		t.Run(name, func(t *testing.T) {
			key, err := auth.ParseAPIKey(text)
			if !errors.Is(err, auth.ErrMalformedKey) {
				t.Fatalf("error %v, want ErrMalformedKey", err)
			}
			if key.Reveal() != "" || key.Prefix != "" {
				t.Fatalf("a refused text gave the key %q, prefix %q", key.Reveal(), key.Prefix)
			}
			if len(text) > 8 && strings.Contains(err.Error(), text[4:]) {
				t.Fatalf("the error repeats the text: %v", err)
			}
		})
	}
}

func TestAPIKeyHashIsSHA256OfTheFullText(t *testing.T) {
	key, err := auth.ParseAPIKey(sampleKey)
	if err != nil {
		t.Fatal(err)
	}
	// printf %s lg_0a1b2c3d_0011... | sha256sum
	const want = "0f04e6178b65d50d31b6272acaee5453d4f0f1b4608d51ad648860a4929340ac"
	if got := key.Hash(); hex.EncodeToString(got[:]) != want {
		t.Fatalf("hash %x, want %s: stored keys would stop working", got, want)
	}
}

func TestAPIKeyMatchesOnlyItsOwnHash(t *testing.T) {
	key, other := auth.NewAPIKey(), auth.NewAPIKey()
	own, others := key.Hash(), other.Hash()
	if !key.Matches(own[:]) {
		t.Error("does not match its own hash")
	}
	for name, hash := range map[string][]byte{
		"another key's": others[:], "nil": nil, "empty": {}, "shortened": own[:31], "lengthened": append(own[:], 0),
	} {
		if key.Matches(hash) {
			t.Errorf("matches %s hash", name)
		}
	}
	for i := range own {
		changed := own
		changed[i] ^= 1
		if key.Matches(changed[:]) {
			t.Errorf("matches its hash with byte %d changed", i)
		}
	}
}

func TestZeroAPIKeyMatchesNothing(t *testing.T) {
	var none auth.APIKey
	hash := none.Hash()
	if none.Matches(hash[:]) || none.Matches(nil) || none.Matches([]byte{}) {
		t.Error("the zero key matches a hash")
	}
}

func TestAPIKeyWithAnyByteChangedNeverMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := auth.NewAPIKey()
		hash := key.Hash()
		text := []byte(key.Reveal())
		i := rapid.IntRange(0, len(text)-1).Draw(t, "position")
		alphabet := rapid.OneOf(rapid.ByteRange('0', '9'), rapid.ByteRange('a', 'f'), rapid.Byte())
		text[i] = alphabet.Filter(func(b byte) bool { return b != text[i] }).Draw(t, "byte")
		changed, err := auth.ParseAPIKey(string(text))
		if err == nil && changed.Matches(hash[:]) {
			t.Fatalf("matches with byte %d changed", i)
		}
		if err != nil && !errors.Is(err, auth.ErrMalformedKey) {
			t.Fatalf("error %v, want ErrMalformedKey", err)
		}
	})
}

func TestLooksLikeAPIKeyTellsAKeyFromAJWT(t *testing.T) {
	for text, want := range map[string]bool{
		sampleKey: true, "lg_": true, "lg_damaged": true,
		"": false, "lg": false, "eyJhbGciOiJIUzI1NiJ9.e30.AAAA": false, " lg_": false, "LG_": false,
	} {
		if got := auth.LooksLikeAPIKey(text); got != want {
			t.Errorf("LooksLikeAPIKey(%q) = %v, want %v", text, got, want)
		}
	}
}

// A key has one text only: whatever parses renders to the same text again.
func FuzzParseAPIKey(f *testing.F) {
	f.Add(sampleKey)
	f.Add(strings.ToUpper(sampleKey))
	f.Add(sampleKey + "\n")
	f.Add("lg_")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := auth.ParseAPIKey(text)
		if err != nil {
			if !errors.Is(err, auth.ErrMalformedKey) {
				t.Fatalf("error %v, want ErrMalformedKey", err)
			}
			return
		}
		if key.Reveal() != text || len(text) != len(sampleKey) || text != strings.ToLower(text) {
			t.Fatalf("%q parsed to %q", text, key.Reveal())
		}
		if _, err := hex.DecodeString(key.Prefix + key.Reveal()[12:]); err != nil {
			t.Fatalf("%q is not hex: %v", text, err)
		}
		if !auth.LooksLikeAPIKey(text) || strings.Contains(key.String(), text[12:]) {
			t.Fatalf("%q is not recognised or not redacted (%s)", text, key)
		}
	})
}
