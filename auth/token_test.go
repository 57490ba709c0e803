package auth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/pikarc/server/auth"
)

const (
	tokenTTL  = 24 * time.Hour
	account   = "01936f4e-0000-7000-8000-000000000001"
	workspace = "01936f4e-0000-7000-8000-000000000002"
)

// issuedAt has a fraction of a second, which a token does not keep.
func issuedAt() time.Time { return time.Date(2026, 11, 23, 7, 8, 29, 123_000_000, time.UTC) }

func tokensAt(t testing.TB, now time.Time) *auth.Tokens {
	t.Helper()
	return auth.NewTokens(testSecret(t), tokenTTL, func() time.Time { return now })
}

func issue(t testing.TB, tokens *auth.Tokens) string {
	t.Helper()
	token, err := tokens.Issue(auth.NewSessionID(), account, workspace, 7)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// forge signs any header and payload with HMAC-SHA256.
func forge(key []byte, header, payload string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// payload is what Issue puts into a token at issuedAt, with the given replacements.
func payload(oldNew ...string) string {
	whole := fmt.Sprintf(`{"sub":%q,"exp":%d,"iat":%d,"ws":%q,"ver":7}`,
		account, issuedAt().Add(tokenTTL).Unix(), issuedAt().Unix(), workspace)
	return strings.NewReplacer(oldNew...).Replace(whole)
}

// withID is payload with a session id, as Issue adds one.
var withID = payload(`,"ws"`, `,"jti":"000102030405060708090a0b0c0d0e0f","ws"`)

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func TestTokenRoundTrip(t *testing.T) {
	tokens := tokensAt(t, issuedAt())
	claims, err := tokens.Parse(issue(t, tokens))
	if err != nil {
		t.Fatal(err)
	}
	issued := issuedAt().Truncate(time.Second)
	if claims.Session == (auth.SessionID{}) {
		t.Error("a token without a session of its own")
	}
	claims.Session = auth.SessionID{}
	want := auth.Claims{Account: account, Workspace: workspace, Version: 7, IssuedAt: issued, ExpiresAt: issued.Add(tokenTTL)}
	if claims != want {
		t.Errorf("claims %+v, want %+v", claims, want)
	}
	if tokens.TTL() != tokenTTL {
		t.Errorf("TTL %v, want %v", tokens.TTL(), tokenTTL)
	}
}

func TestTokenRoundTripsAnyClaims(t *testing.T) {
	secret := testSecret(t)
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)
		ttl := time.Duration(rapid.IntRange(1, 1<<20).Draw(t, "ttl")) * time.Second
		tokens := auth.NewTokens(secret, ttl, func() time.Time { return now })
		id := rapid.StringN(1, 64, 255)
		want := auth.Claims{
			Account: id.Draw(t, "account"), Workspace: id.Draw(t, "workspace"), Version: rapid.Int64().Draw(t, "version"),
			IssuedAt: now.UTC(), ExpiresAt: now.Add(ttl).UTC(),
		}
		token, err := tokens.Issue(auth.NewSessionID(), want.Account, want.Workspace, want.Version)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tokens.Parse(token)
		got.Session = auth.SessionID{} // at random
		if err != nil || got != want {
			t.Fatalf("claims %+v, error %v, want %+v", got, err, want)
		}
	})
}

// Tokens that were issued must stay valid: a release that read them differently would sign
// everybody out. The first was issued before tokens had an id.
func TestTokenTextsAreStable(t *testing.T) {
	const (
		without = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIwMTkzNmY0ZS0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDEiLCJleHAiOjE3OTU1MDQxMDksImlhdCI6MTc5NTQxNzcwOSwid3MiOiIwMTkzNmY0ZS0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDIiLCJ2ZXIiOjd9.Np7hRhFho2c1ehcusLBhu5x-Vg2TIUca7zKUJZ42OW8"
		with    = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIwMTkzNmY0ZS0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDEiLCJleHAiOjE3OTU1MDQxMDksImlhdCI6MTc5NTQxNzcwOSwianRpIjoiMDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGYiLCJ3cyI6IjAxOTM2ZjRlLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMiIsInZlciI6N30.NKMFoO6f9GrvRGNuFCMccmox4Wze4xNwTpedO1ZcppA"
	)
	tokens := tokensAt(t, issuedAt())
	for text, session := range map[string]string{
		without: "7b8f26bb2fb10c33be1222d95f883121",
		with:    "000102030405060708090a0b0c0d0e0f",
	} {
		claims, err := tokens.Parse(text)
		if err != nil || claims.Account != account || claims.Version != 7 || hex.EncodeToString(claims.Session[:]) != session {
			t.Errorf("%s\nis read as %+v, %v", text, claims, err)
		}
	}
	key := auth.TokenKey(testSecret(t))
	if forge(key, hs256, payload()) != without || forge(key, hs256, withID) != with {
		t.Errorf("forged tokens are not as issued, the tests below prove nothing:\n%s\n%s", forge(key, hs256, payload()), forge(key, hs256, withID))
	}
	header, body, _ := strings.Cut(issue(t, tokens), ".")
	body, _, _ = strings.Cut(body, ".")
	for part, want := range map[string]string{
		header: `^\{"alg":"HS256","typ":"JWT"\}$`,
		body:   `^` + strings.Replace(regexp.QuoteMeta(payload()), `,"ws"`, `,"jti":"[0-9a-f]{32}","ws"`, 1) + `$`,
	} {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !regexp.MustCompile(want).Match(text) {
			t.Errorf("issued %s, %v, want %s", text, err, want)
		}
	}
}

func TestTokensOfOneSecondAreSessionsOfTheirOwn(t *testing.T) {
	tokens := tokensAt(t, issuedAt())
	if a, b := issue(t, tokens), issue(t, tokens); a == b {
		t.Error("two sign-ins in one second gave one token: ending one would end both")
	}
}

func TestTokenWithAnIDOfAnotherFormIsRefused(t *testing.T) {
	for _, id := range []string{"x", "00", strings.Repeat("0", 31), strings.Repeat("0", 34), strings.Repeat("g", 32)} {
		token := forge(auth.TokenKey(testSecret(t)), hs256, payload(`,"ws"`, `,"jti":"`+id+`","ws"`))
		if claims, err := tokensAt(t, issuedAt()).Parse(token); !errors.Is(err, auth.ErrInvalidToken) || claims != (auth.Claims{}) {
			t.Errorf("id %q: %+v, %v", id, claims, err)
		}
	}
}

func TestTokenExpiresAtItsExactSecond(t *testing.T) {
	token := issue(t, tokensAt(t, issuedAt()))
	end := issuedAt().Truncate(time.Second).Add(tokenTTL)
	if _, err := tokensAt(t, end.Add(-1)).Parse(token); err != nil {
		t.Errorf("a nanosecond before the end: %v", err)
	}
	for _, late := range []time.Duration{0, 1, time.Hour, 1000 * tokenTTL} {
		claims, err := tokensAt(t, end.Add(late)).Parse(token)
		if !errors.Is(err, auth.ErrExpiredToken) || errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%v after the end: %v, want ErrExpiredToken", late, err)
		}
		if claims != (auth.Claims{}) {
			t.Errorf("an expired token gave claims %+v", claims)
		}
	}
}

func TestTokenFromTheFutureIsRefused(t *testing.T) {
	token := issue(t, tokensAt(t, issuedAt()))
	issued := issuedAt().Truncate(time.Second)
	if _, err := tokensAt(t, issued.Add(-time.Minute)).Parse(token); err != nil {
		t.Errorf("a clock one minute behind: %v", err)
	}
	if _, err := tokensAt(t, issued.Add(-time.Minute-1)).Parse(token); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("a clock more than one minute behind: %v, want ErrInvalidToken", err)
	}
}

// A newer server that adds claims can be rolled back without signing people out.
func TestTokenWithClaimsOfANewerServerIsAccepted(t *testing.T) {
	token := forge(auth.TokenKey(testSecret(t)), hs256, payload(`"ver":7`, `"ver":7,"role":"admin","x":{"y":[1]}`))
	if claims, err := tokensAt(t, issuedAt()).Parse(token); err != nil || claims.Account != account {
		t.Errorf("claims %+v, error %v", claims, err)
	}
}

func TestTokenOfAnotherAlgorithmIsRefused(t *testing.T) {
	key, tokens := auth.TokenKey(testSecret(t)), tokensAt(t, issuedAt())
	signed := map[string]string{}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
		token, err := jwt.NewWithClaims(method, jwt.MapClaims{
			"sub": account, "ws": workspace, "ver": 7, "iat": issuedAt().Unix(), "exp": issuedAt().Add(tokenTTL).Unix(),
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		signed["truly signed "+method.Alg()] = token
	}
	for _, alg := range []string{"none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "hs256", "", "HS256 "} {
		signed["HMAC-SHA256 under the name "+alg] = forge(key, fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, alg), payload())
		unsigned := forge(key, fmt.Sprintf(`{"alg":%q}`, alg), payload())
		signed["no signature under the name "+alg] = unsigned[:strings.LastIndex(unsigned, ".")+1]
	}
	signed["no alg"] = forge(key, `{"typ":"JWT"}`, payload())
	signed["alg null"] = forge(key, `{"alg":null}`, payload())
	signed["alg list"] = forge(key, `{"alg":["HS256"]}`, payload())
	for name, token := range signed {
		t.Run(name, func(t *testing.T) {
			if claims, err := tokens.Parse(token); !errors.Is(err, auth.ErrInvalidToken) {
				t.Errorf("claims %+v, error %v, want ErrInvalidToken", claims, err)
			}
		})
	}
}

// All of these are truly signed by the server's own key.
func TestTokenWithMissingOrDamagedClaimsIsRefused(t *testing.T) {
	key, tokens := auth.TokenKey(testSecret(t)), tokensAt(t, issuedAt())
	exp, iat := fmt.Sprint(issuedAt().Add(tokenTTL).Unix()), fmt.Sprint(issuedAt().Unix())
	for name, body := range map[string]string{
		"no exp":         payload(`"exp":`+exp+`,`, ""),
		"exp null":       payload(exp, "null"),
		"exp text":       payload(exp, `"tomorrow"`),
		"exp overflow":   payload(exp, "1e400"),
		"no iat":         payload(`"iat":`+iat+`,`, ""),
		"no sub":         payload(`"sub":"`+account+`",`, ""),
		"sub empty":      payload(account, ""),
		"sub number":     payload(`"`+account+`"`, "1"),
		"no ws":          payload(`"ws":"`+workspace+`",`, ""),
		"ws empty":       payload(workspace, ""),
		"no ver":         payload(`,"ver":7`, ""),
		"ver text":       payload(`"ver":7`, `"ver":"7"`),
		"ver fraction":   payload(`"ver":7`, `"ver":7.5`),
		"ver overflow":   payload(`"ver":7`, `"ver":9223372036854775808`),
		"nbf ahead":      payload(`"ver":7`, `"ver":7,"nbf":`+exp),
		"empty object":   "{}",
		"not an object":  "[]",
		"null":           "null",
		"not JSON":       "{",
		"two JSON texts": payload() + "{}",
	} {
		t.Run(name, func(t *testing.T) {
			if body == payload() {
				t.Fatal("the payload was not changed")
			}
			claims, err := tokens.Parse(forge(key, hs256, body))
			if !errors.Is(err, auth.ErrInvalidToken) || claims != (auth.Claims{}) {
				t.Errorf("claims %+v, error %v, want ErrInvalidToken", claims, err)
			}
		})
	}
}

func TestTokenOfAnotherSecretIsRefused(t *testing.T) {
	other, err := auth.LoadSecret(t.TempDir(), envSecret+"!")
	if err != nil {
		t.Fatal(err)
	}
	secret, tokens := testSecret(t), tokensAt(t, issuedAt())
	for name, key := range map[string][]byte{
		"another server": auth.TokenKey(other), "the seal key": auth.SealKey(secret),
		"the bare secret": []byte(envSecret), "the root": auth.Root(secret), "empty": {},
	} {
		if _, err := tokens.Parse(forge(key, hs256, payload())); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("signed under %s: %v, want ErrInvalidToken", name, err)
		}
	}
	late := issuedAt().Add(2 * tokenTTL)
	if _, err := tokensAt(t, late).Parse(forge(auth.TokenKey(other), hs256, payload())); errors.Is(err, auth.ErrExpiredToken) {
		t.Error("a forged token is called expired: its times were believed before its signature")
	}
}

func TestTokenWithAnyByteChangedIsRefused(t *testing.T) {
	tokens := tokensAt(t, issuedAt())
	token := issue(t, tokens)
	const replacements = "AQgw-_.=+/ \n\r\x00"
	for i := range token {
		for j := range replacements {
			if token[i] == replacements[j] {
				continue
			}
			for name, changed := range map[string]string{
				"replaced": token[:i] + replacements[j:j+1] + token[i+1:],
				"inserted": token[:i] + replacements[j:j+1] + token[i:],
			} {
				if _, err := tokens.Parse(changed); !errors.Is(err, auth.ErrInvalidToken) {
					t.Fatalf("byte %d %s by %q: %v, want ErrInvalidToken", i, name, replacements[j], err)
				}
			}
		}
		if _, err := tokens.Parse(token[:i]); !errors.Is(err, auth.ErrInvalidToken) {
			t.Fatalf("cut to %d bytes: %v, want ErrInvalidToken", i, err)
		}
	}
	for _, changed := range []string{token + "=", token + "\n", token + ".", token + "A", " " + token, "Bearer " + token} {
		if _, err := tokens.Parse(changed); !errors.Is(err, auth.ErrInvalidToken) {
			t.Errorf("%q: %v, want ErrInvalidToken", changed, err)
		}
	}
}

// The last base64 digit of a 32-byte signature has two unused bits.
func TestTokenSignatureHasOneSpelling(t *testing.T) {
	tokens := tokensAt(t, issuedAt())
	token := issue(t, tokens)
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	accepted := 0
	for i := range alphabet {
		if _, err := tokens.Parse(token[:len(token)-1] + alphabet[i:i+1]); err == nil {
			accepted++
		}
	}
	if accepted != 1 {
		t.Errorf("%d last digits are accepted, want 1", accepted)
	}
}

func TestOversizedTokenIsRefusedUnread(t *testing.T) {
	body := payload(`"ver":7`, `"ver":7,"x":"`+strings.Repeat("x", 8<<10)+`"`)
	token := forge(auth.TokenKey(testSecret(t)), hs256, body)
	if _, err := tokensAt(t, issuedAt()).Parse(token); !errors.Is(err, auth.ErrInvalidToken) {
		t.Errorf("%d bytes: %v, want ErrInvalidToken", len(token), err)
	}
}

func TestTokensWithoutASecretDoNothing(t *testing.T) {
	tokens := auth.NewTokens(auth.Secret{}, tokenTTL, issuedAt)
	if token, err := tokens.Issue(auth.NewSessionID(), account, workspace, 1); err == nil {
		t.Errorf("issued %s under no secret", token)
	}
	_, err := tokens.Parse(forge(nil, hs256, payload()))
	if err == nil || errors.Is(err, auth.ErrInvalidToken) || errors.Is(err, auth.ErrExpiredToken) {
		t.Errorf("error %v: want one that does not blame the client", err)
	}
}

func TestIssueNeedsAccountAndWorkspace(t *testing.T) {
	tokens := tokensAt(t, issuedAt())
	for _, ids := range [][2]string{{"", workspace}, {account, ""}} {
		if token, err := tokens.Issue(auth.NewSessionID(), ids[0], ids[1], 1); err == nil {
			t.Errorf("Issue(%q, %q) = %s", ids[0], ids[1], token)
		}
	}
}

// Nothing but the server's own text is accepted, and nothing panics.
func FuzzTokenParse(f *testing.F) {
	tokens := tokensAt(f, issuedAt())
	genuine := issue(f, tokens)
	f.Add(genuine)
	f.Add(genuine + "\n")
	f.Add(genuine[:len(genuine)-1])
	f.Add(forge([]byte("another key"), hs256, payload()))
	f.Add(forge(nil, `{"alg":"none"}`, payload()))
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := tokens.Parse(text)
		switch {
		case text == genuine && err != nil:
			t.Fatal(err)
		case text != genuine && !errors.Is(err, auth.ErrInvalidToken):
			t.Fatalf("%q: claims %+v, error %v, want ErrInvalidToken", text, claims, err)
		}
	})
}
