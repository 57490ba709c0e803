package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"

	"github.com/pikarc/server/auth"
)

// cheapHasher stands a trivial function in for argon2, and records its calls.
func cheapHasher(parallel int) (*auth.Hasher, *[]auth.Derivation) {
	hasher, calls := auth.NewHasher(parallel), new([]auth.Derivation)
	auth.ReplaceArgon2(hasher, func(d auth.Derivation) []byte {
		*calls = append(*calls, d)
		return []byte(d.Password)
	})
	return hasher, calls
}

func TestPasswordVerifiesOnlyAgainstItsOwnHash(t *testing.T) {
	hasher := auth.NewHasher(2)
	const password = "pässwörd with spaces"
	encoded, err := hasher.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for attempt, want := range map[string]bool{password: true, password + " ": false, "": false} {
		if got, err := hasher.Verify(t.Context(), encoded, attempt); err != nil || got != want {
			t.Errorf("Verify(%q) = %v, %v, want %v", attempt, got, err, want)
		}
	}
}

func TestPasswordHashIsSaltedPHC(t *testing.T) {
	hasher, _ := cheapHasher(1)
	first, err := hasher.Hash(t.Context(), "password")
	if err != nil {
		t.Fatal(err)
	}
	second, err := hasher.Hash(t.Context(), "password")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") || len(first) != len("$argon2id$v=19$m=19456,t=2,p=1$")+22+1+43 {
		t.Errorf("not the documented PHC string: %s", first)
	}
	if first == second {
		t.Error("two hashes of one password are equal: the salt is not random")
	}
}

// The vectors come from another implementation (OpenSSL), with other
// parameters than today's: hashes stay valid when the cost changes.
func TestPasswordHashesOfOtherParametersVerify(t *testing.T) {
	hasher := auth.NewHasher(1)
	for _, encoded := range []string{
		"$argon2id$v=19$m=4096,t=1,p=4$c2FsdCBmb3IgdmVjdG9ycw$zkrTy+/68Tf3hjIKvLNONNEXNz1GFUKj96V1yR/gqc4",
		"$argon2id$v=19$m=256,t=3,p=1$MTIgYnl0ZSBzYWx0$XVZ43v7E6EGwSMcHOI+8bA",
	} {
		if ok, err := hasher.Verify(t.Context(), encoded, "correct horse"); !ok || err != nil {
			t.Errorf("Verify against %s = %v, %v", encoded, ok, err)
		}
		if ok, err := hasher.Verify(t.Context(), encoded, "correct house"); ok || err != nil {
			t.Errorf("Verify of another password against %s = %v, %v", encoded, ok, err)
		}
	}
}

func TestVerifyNoneDoesTheWorkOfVerify(t *testing.T) {
	hasher, calls := cheapHasher(1)
	encoded, err := hasher.Hash(t.Context(), "the real one")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := hasher.Verify(t.Context(), encoded, "attempt"); ok || err != nil {
		t.Fatalf("Verify = %v, %v", ok, err)
	}
	if err := hasher.VerifyNone(t.Context(), "attempt"); err != nil {
		t.Fatal(err)
	}
	if len(*calls) != 3 {
		t.Fatalf("%d derivations for Hash, Verify and VerifyNone, want one each", len(*calls))
	}
	want := auth.Derivation{Memory: 19 * 1024, Time: 2, Threads: 1, SaltLen: 16, Size: 32, Password: "attempt"}
	if known, unknown := (*calls)[1], (*calls)[2]; known != want || unknown != want {
		t.Errorf("known email ran %+v, unknown email %+v, want both %+v", known, unknown, want)
	}
}

func TestVerifyRefusesDamagedAndExcessiveHashes(t *testing.T) {
	const salt, hash = "c2FsdHNhbHRzYWx0c2FsdA", "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
	phc := func(params, salt, hash string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + hash }
	good := phc("m=19456,t=2,p=1", salt, hash)
	hasher, calls := cheapHasher(1)
	if ok, err := hasher.Verify(t.Context(), good, "hashhashhashhashhashhashhashhash"); !ok || err != nil {
		t.Fatalf("the undamaged hash: %v, %v", ok, err)
	}
	*calls = nil
	long := strings.Repeat("AAAA", 24)
	for name, encoded := range map[string]string{
		"empty":             "",
		"bcrypt":            "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"argon2i":           strings.Replace(good, "argon2id", "argon2i", 1),
		"older version":     strings.Replace(good, "v=19", "v=16", 1),
		"no version":        strings.Replace(good, "$v=19", "", 1),
		"something before":  "x" + good,
		"something after":   good + "$",
		"space after":       good + " ",
		"no parameters":     phc("", salt, hash),
		"order changed":     phc("t=2,m=19456,p=1", salt, hash),
		"more parameters":   phc("m=19456,t=2,p=1,x=1", salt, hash),
		"leading zero":      phc("m=019456,t=2,p=1", salt, hash),
		"plus sign":         phc("m=+19456,t=2,p=1", salt, hash),
		"negative":          phc("m=-1,t=2,p=1", salt, hash),
		"memory overflow":   phc("m=4294967296,t=2,p=1", salt, hash),
		"threads overflow":  phc("m=19456,t=2,p=257", salt, hash),
		"memory above max":  phc("m=65537,t=2,p=1", salt, hash),
		"memory below min":  phc("m=7,t=2,p=1", salt, hash),
		"memory of threads": phc("m=31,t=2,p=4", salt, hash),
		"time 0":            phc("m=19456,t=0,p=1", salt, hash),
		"time above max":    phc("m=19456,t=9,p=1", salt, hash),
		"threads 0":         phc("m=19456,t=2,p=0", salt, hash),
		"threads above max": phc("m=19456,t=2,p=5", salt, hash),
		"salt padded":       phc("m=19456,t=2,p=1", salt+"==", hash),
		"salt not base64":   phc("m=19456,t=2,p=1", "!"+salt[1:], hash),
		"salt short":        phc("m=19456,t=2,p=1", "c2FsdHNhbA", hash),
		"salt long":         phc("m=19456,t=2,p=1", long, hash),
		"no hash field":     strings.TrimSuffix(good, "$"+hash),
		"hash missing":      phc("m=19456,t=2,p=1", salt, ""),
		"hash not base64":   phc("m=19456,t=2,p=1", salt, "!"+hash[1:]),
		"hash short":        phc("m=19456,t=2,p=1", salt, "aGFzaGhhc2hoYXNo"),
		"hash long":         phc("m=19456,t=2,p=1", salt, long),
		"hash's loose bits": phc("m=19456,t=2,p=1", salt, hash[:42]+"h"),
		"hash with newline": phc("m=19456,t=2,p=1", salt, hash[:8]+"\n"+hash[8:]),
	} {
		t.Run(name, func(t *testing.T) {
			ok, err := hasher.Verify(t.Context(), encoded, "hashhashhashhashhashhashhashhash")
			if ok || !errors.Is(err, auth.ErrMalformedHash) {
				t.Errorf("Verify = %v, %v, want a malformed-hash error", ok, err)
			}
			if err != nil && (strings.Contains(err.Error(), salt) || strings.Contains(err.Error(), hash)) {
				t.Errorf("the error repeats the hash: %v", err)
			}
		})
	}
	if len(*calls) != 0 {
		t.Errorf("argon2 ran on refused parameters: %+v", *calls)
	}
}

func TestPasswordRoundTripsWhateverItsBytes(t *testing.T) {
	hasher, _ := cheapHasher(1)
	rapid.Check(t, func(rt *rapid.T) {
		password := string(rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(rt, "password"))
		encoded, err := hasher.Hash(t.Context(), password)
		if err != nil {
			rt.Fatal(err)
		}
		if ok, err := hasher.Verify(t.Context(), encoded, password); !ok || err != nil {
			rt.Fatalf("Verify(%q) = %v, %v", password, ok, err)
		}
	})
}

func TestHasherRunsNoMoreThanItsLimitAtOnce(t *testing.T) {
	for parallel, want := range map[int]int32{3: 3, 1: 1, 0: 1, -1: 1} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, done atomic.Int32
				release := make(chan struct{})
				hasher := auth.NewHasher(parallel)
				auth.ReplaceArgon2(hasher, func(auth.Derivation) []byte {
					running.Add(1)
					<-release
					running.Add(-1)
					done.Add(1)
					return nil
				})
				const callers = 9
				for i := range callers {
					go func() {
						if i%2 == 0 {
							hasher.Hash(t.Context(), "password")
						} else {
							hasher.VerifyNone(t.Context(), "password")
						}
					}()
				}
				for range callers {
					synctest.Wait()
					if got := running.Load(); got != min(want, callers-done.Load()) {
						t.Errorf("%d hashes run at once after %d, want %d", got, done.Load(), want)
					}
					release <- struct{}{}
				}
				synctest.Wait()
				if done.Load() != callers {
					t.Errorf("%d of %d callers were served", done.Load(), callers)
				}
			})
		})
	}
}

func TestHasherStopsWaitingWhenTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hasher := auth.NewHasher(1)
		auth.ReplaceArgon2(hasher, func(auth.Derivation) []byte { <-release; return nil })
		go hasher.Hash(context.Background(), "holds the only slot")
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- hasher.VerifyNone(ctx, "waits") }()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting call ended with %v, want context.Canceled", err)
		}
		close(release)
	})
}

func TestHasherStartsNothingForAnEndedContext(t *testing.T) {
	hasher, calls := cheapHasher(1)
	encoded, err := hasher.Hash(t.Context(), "password")
	if err != nil {
		t.Fatal(err)
	}
	*calls = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 { // a free slot and an ended context are both ready: never leave it to chance
		_, hashErr := hasher.Hash(ctx, "password")
		ok, verifyErr := hasher.Verify(ctx, encoded, "password")
		noneErr := hasher.VerifyNone(ctx, "password")
		for _, err := range []error{hashErr, verifyErr, noneErr} {
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v, want context.Canceled", err)
			}
		}
		if ok || len(*calls) != 0 {
			t.Fatal("argon2 ran for an ended context")
		}
	}
}

func TestPasswordsThatLookTheSameAreTheSame(t *testing.T) {
	ctx, h := t.Context(), auth.NewHasher(1)
	for typed, again := range map[string]string{
		"p\u00e4ssw\u00f6rter1":          "pa\u0308sswo\u0308rter1", // composed and decomposed
		"\uff50\uff41\uff53\uff53 12345": "pass 12345",              // full width
		"\ufb01ne \u2126 meter":          "fine \u03a9 meter",
	} {
		for _, pair := range [][2]string{{typed, again}, {again, typed}} {
			encoded, err := h.Hash(ctx, pair[0])
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := h.Verify(ctx, encoded, pair[1]); !ok || err != nil {
				t.Errorf("%+q is not taken for %+q: %v", pair[1], pair[0], err)
			}
			if ok, err := h.Verify(ctx, encoded, pair[1]+"x"); ok || err != nil {
				t.Errorf("one letter more than %+q is taken: %v", pair[1], err)
			}
		}
	}
}

// Hashes of before passwords were brought to one form are of what was typed.
func TestAPasswordHashedAsTypedIsStillTaken(t *testing.T) {
	const typed = "pa\u0308sswo\u0308rter1"
	salt := []byte("eight or more bytes")
	b64 := base64.RawStdEncoding.EncodeToString
	encoded := "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(typed), salt, 1, 8, 1, 32))
	if ok, err := auth.NewHasher(1).Verify(t.Context(), encoded, typed); !ok || err != nil {
		t.Errorf("as it was typed: %v, %v", ok, err)
	}
	if ok, err := auth.NewHasher(1).Verify(t.Context(), encoded, "passworter1"); ok || err != nil {
		t.Errorf("another: %v, %v", ok, err)
	}
}
