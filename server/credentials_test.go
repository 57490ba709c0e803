package server_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"database/sql"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// kind is what a credential looks like, true or not.
type kind string

const (
	nothing  kind = "nothing"
	keyLike  kind = "key"
	tokenish kind = "token"
)

// badCredential is the content of an Authorization header that no call may
// take; "" sends no header.
type badCredential struct {
	name   string
	header string
	kind   kind
	detail string // where the call takes this kind
}

// signer makes tokens as the server does, or nearly.
type signer struct {
	key    []byte // from which the server's own tokens are signed
	claims map[string]string
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// newSigner derives the key under the label that is pinned in package auth.
func (w *world) newSigner(a account) signer {
	w.t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(testSecret), nil, "pikarc/session-token/hs256/v1", sha256.Size)
	w.must(err)
	now := w.clock.now()
	return signer{key: key, claims: map[string]string{
		"sub": `"` + a.id.String() + `"`, "ws": `"` + a.workspaceID.String() + `"`, "ver": "2",
		"iat": fmt.Sprint(now.Unix()), "exp": fmt.Sprint(now.Add(time.Hour).Unix()),
	}}
}

// payload is the claims, some put otherwise: names and JSON in turn, "" drops one.
func (s signer) payload(changes ...string) string {
	parts := make([]string, 0, len(s.claims))
	for _, name := range []string{"sub", "ws", "ver", "iat", "exp"} {
		value := s.claims[name]
		for i := 0; i < len(changes); i += 2 {
			if changes[i] == name {
				value = changes[i+1]
			}
		}
		if value != "" {
			parts = append(parts, `"`+name+`":`+value)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// token signs whatever header and payload say.
func token(key []byte, with func() hash.Hash, header, payload string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	mac := hmac.New(with, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

// signed is a token as the server signs it.
func (s signer) signed(changes ...string) string {
	return token(s.key, sha256.New, hs256, s.payload(changes...))
}

// flip changes one character of a text into another one of its alphabet.
func flip(text string, at int) string {
	with := "0"
	if text[at:at+1] == with {
		with = "1"
	}
	return text[:at] + with + text[at+1:]
}

// badTokens are those that look like a session of a's, who has changed the
// password once; b is another account.
func (w *world) badTokens(a, b account) []badCredential {
	w.t.Helper()
	s := w.newSigner(a)
	w.call("GET", "/v1/auth/me", s.signed(), nil).want(http.StatusOK) // else the tokens below prove nothing
	parts := strings.Split(s.signed(), ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	stranger := base64.RawURLEncoding.EncodeToString([]byte(s.payload("sub", `"`+b.id.String()+`"`, "ws", `"`+b.workspaceID.String()+`"`)))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	past := fmt.Sprint(w.clock.now().Unix())
	ahead := fmt.Sprint(w.clock.now().Add(time.Hour).Unix())
	const invalid, ended, expired = "Invalid token", "Token is no longer valid", "Token has expired"
	var all []badCredential
	for _, c := range [][3]string{
		{"expired this second", s.signed("exp", past), expired},
		{"tampered payload", header + "." + stranger + "." + signature, invalid},
		{"tampered signature", header + "." + payload + "." + flip(signature, len(signature)/2), invalid},
		{"without signature", header + "." + payload + ".", invalid},
		{"two parts", header + "." + payload, invalid},
		{"alg none", none + "." + payload + ".", invalid},
		{"alg none with a signature", none + "." + payload + "." + signature, invalid},
		{"alg None, signed", token(s.key, sha256.New, `{"alg":"None"}`, s.payload()), invalid},
		{"HS384 under the right secret", token(s.key, sha512.New384, `{"alg":"HS384","typ":"JWT"}`, s.payload()), invalid},
		{"HS512 under the right secret", token(s.key, sha512.New, `{"alg":"HS512","typ":"JWT"}`, s.payload()), invalid},
		{"no alg", token(s.key, sha256.New, `{"typ":"JWT"}`, s.payload()), invalid},
		{"another secret", token([]byte("another secret"), sha256.New, hs256, s.payload()), invalid},
		{"the bare secret", token([]byte(testSecret), sha256.New, hs256, s.payload()), invalid},
		{"another secret, expired", token([]byte("another secret"), sha256.New, hs256, s.payload("exp", past)), invalid},
		{"an older version", s.signed("ver", "1"), ended},
		{"a newer version", s.signed("ver", "3"), ended},
		{"no version", s.signed("ver", ""), invalid},
		{"never expiring", s.signed("exp", ""), invalid},
		{"issued in the future", s.signed("iat", ahead), invalid},
		{"another's workspace", s.signed("ws", `"`+b.workspaceID.String()+`"`), invalid},
		{"another's account", s.signed("sub", `"`+b.id.String()+`"`), invalid},
		{"a workspace that is none", s.signed("ws", `"`+unknownID+`"`), invalid},
		{"an account that is no id", s.signed("sub", `"1"`), invalid},
		{"account and workspace the wrong way round", s.signed("sub", s.claims["ws"], "ws", s.claims["sub"]), invalid},
		{"two at once", s.signed() + " " + s.signed(), invalid},
		{"nonsense", "nonsense", invalid},
		{"dots", "..", invalid},
	} {
		all = append(all, badCredential{name: c[0], header: "Bearer " + c[1], kind: tokenish, detail: c[2]})
	}
	return all
}

// badCredentials are all that could be taken for one of a's. Before that, a has
// rotated its key and changed its password.
func (w *world) badCredentials(a *account, b account) []badCredential {
	w.t.Helper()
	old := *a
	a.key = w.call("POST", "/v1/api-keys/regenerate", a.token, nil).want(http.StatusOK).text("key")
	a.token = w.call("POST", "/v1/auth/change-password", a.token, `{"current_password":"`+password+`","new_password":"another battery"}`).
		want(http.StatusOK).text("access_token")
	prefix, secret := a.key[:len("lg_01234567_")], a.key[len("lg_01234567_"):]
	all := []badCredential{
		{name: "none", kind: nothing},
		{name: "empty", header: " ", kind: nothing},
		{name: "Basic", header: "Basic " + a.key, kind: nothing},
		{name: "Token", header: "Token " + a.token, kind: nothing},
		{name: "bare key", header: a.key, kind: nothing},
		{name: "bare token", header: a.token, kind: nothing},
		{name: "bearer of nothing", header: "Bearer", kind: nothing},
		{name: "bearer of a space", header: "Bearer  ", kind: nothing},
		{name: "scheme grown together", header: "Bearer" + a.key, kind: nothing},
		{name: "comma", header: "Bearer, " + a.key, kind: nothing},
	}
	for name, key := range map[string]string{
		"malformed":                    "lg_nonsense",
		"only the scheme of keys":      "lg_",
		"cut short":                    a.key[:len(a.key)-1],
		"a character more":             a.key + "0",
		"upper case":                   prefix + strings.ToUpper(secret),
		"unknown":                      "lg_00000000_" + strings.Repeat("0", 64),
		"right prefix, wrong secret":   prefix + flip(secret, len(secret)-1),
		"right prefix, another's":      prefix + b.key[len(prefix):],
		"wrong prefix, right secret":   b.key[:len(prefix)] + secret,
		"key and token":                a.key + " " + a.token,
		"LIKE pattern for a prefix":    "lg_%%%%%%%%_" + secret,
		"prefix and the hash's digits": prefix + fmt.Sprintf("%x", sha256.Sum256([]byte(a.key))),
	} {
		all = append(all, badCredential{name: name, header: "Bearer " + key, kind: keyLike, detail: "Invalid API key"})
	}
	all = append(all, badCredential{name: "revoked", header: "Bearer " + old.key, kind: keyLike, detail: "API key has been revoked"})
	return append(append(all, w.badTokens(*a, b)...), badCredential{
		name: "of before the password changed", header: "Bearer " + old.token, kind: tokenish, detail: "Token is no longer valid",
	})
}

// wantedDetail is what a call says to a credential that is of no use to it.
func (c badCredential) wantedDetail(rt server.TestRoute) string {
	switch {
	case c.kind == nothing:
		return "Not authenticated"
	case c.kind == keyLike && !rt.Admin:
		return "This call needs a signed-in account, not an API key"
	case c.kind == tokenish && !rt.Token:
		return "This call needs an API key"
	default:
		return c.detail
	}
}

func TestNoCallTakesABadCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, b := w.makeFixture(plans.Scale), w.account(plans.Scale)
	all := w.badCredentials(&f.account, b)
	state := w.watch()
	for i, c := range samples(t, w.routes) {
		rt := w.routes[i]
		if !rt.Admin && !rt.Token {
			continue
		}
		bad := all
		if !rt.Admin {
			bad = append(bad[:len(bad):len(bad)], badCredential{name: "a true key", header: "Bearer " + f.key, kind: keyLike})
		}
		if !rt.Token {
			bad = append(bad[:len(bad):len(bad)], badCredential{name: "a true token", header: "Bearer " + f.token, kind: tokenish})
		}
		t.Run(rt.Method+" "+rt.Path, func(t *testing.T) {
			w := w.in(t)
			for _, credential := range bad {
				var headers []string
				if credential.header != "" {
					headers = []string{"Authorization", credential.header}
				}
				for _, body := range []string{f.fill(c.body), "{no JSON"} { // who calls is looked at before what is sent
					state.begin()
					r := w.call(c.method, f.fill(c.path), "", body, headers...)
					want := detail(credential.wantedDetail(rt))
					if r.status != http.StatusUnauthorized || string(r.body) != want || r.header.Get("WWW-Authenticate") != "Bearer" {
						t.Errorf("%s: %d %s, WWW-Authenticate %q, want %s", credential.name, r.status, r.body, r.header.Get("WWW-Authenticate"), want)
					}
					if got := state.changed(); got != "" {
						t.Fatalf("%s: refused, but changed %s", credential.name, got)
					}
				}
			}
		})
	}
}

// A credential counts in the Authorization header alone: elsewhere it would end
// in logs, or come along with a link.
func TestACredentialElsewhereIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	for i, c := range samples(t, w.routes) {
		if !w.routes[i].Admin && !w.routes[i].Token {
			continue
		}
		path, _, _ := strings.Cut(f.fill(c.path), "?")
		for _, credential := range []string{f.key, f.token} {
			r := w.call(c.method, path+"?access_token="+credential+"&api_key="+credential, "", nil,
				"X-Api-Key", credential, "Cookie", "access_token="+credential, "Proxy-Authorization", "Bearer "+credential)
			r.wantDetail(http.StatusUnauthorized, "Not authenticated")
		}
	}
}

func TestEachCallTakesTheSchemeInAnyLetters(t *testing.T) {
	t.Parallel()
	elsewhere := strings.NewReplacer("{run}", unknownID, "{session}", unknownID) // so that none of them ends
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	for i, c := range samples(t, w.routes) {
		rt := w.routes[i]
		credentials := map[string]bool{f.key: rt.Key, f.admin: rt.Admin, f.token: rt.Token}
		for credential, taken := range credentials {
			if !taken {
				continue
			}
			for _, scheme := range []string{"bearer ", "BEARER ", "bEaReR   "} {
				// Without its body, a call that would change something stops at a 422, past the credential.
				r := w.call(c.method, f.fill(elsewhere.Replace(c.path)), "", "[]", "Authorization", scheme+credential)
				if r.status == http.StatusUnauthorized {
					t.Errorf("%s does not take %q: %s", r.what, scheme, r.body)
				}
			}
		}
	}
}

// watch sees what the database holds without asking the server, by two
// connections of its own: one stays at what was, the other sees what is.
type watch struct {
	w           *world
	before, now *sql.Conn
	version     *sql.Stmt // on now: another number after every commit of others
	last        int64     // version at begin
	begun       bool
}

func (w *world) watch() *watch {
	w.t.Helper()
	v := &watch{w: w, before: w.conn(), now: w.conn()}
	var err error
	v.version, err = v.now.PrepareContext(w.t.Context(), "PRAGMA data_version")
	w.must(err)
	return v
}

// begin remembers what is, unless it still remembers since an earlier begin,
// after which nothing has changed.
func (v *watch) begin() {
	v.w.t.Helper()
	if v.begun {
		return
	}
	v.begun = true
	ctx := v.w.t.Context()
	_, err := v.before.ExecContext(ctx, "BEGIN")
	v.w.must(err)
	_, err = rows(ctx, v.before, "SELECT 1 FROM workspaces LIMIT 1") // takes the snapshot
	v.w.must(err)
	v.w.must(v.version.QueryRowContext(ctx).Scan(&v.last))
}

// changed names the tables that differ from what was at begin.
func (v *watch) changed() string {
	v.w.t.Helper()
	ctx := v.w.t.Context()
	var version int64
	v.w.must(v.version.QueryRowContext(ctx).Scan(&version))
	if version == v.last {
		return ""
	}
	defer v.end() // something was committed, though perhaps nothing of it is new
	before, err := everything(ctx, v.before)
	v.w.must(err)
	now, err := everything(ctx, v.now)
	v.w.must(err)
	return changes(before, now)
}

// end forgets what was: call it after what may change something.
func (v *watch) end() {
	v.w.t.Helper()
	if !v.begun {
		return
	}
	v.begun = false
	_, err := v.before.ExecContext(v.w.t.Context(), "ROLLBACK")
	v.w.must(err)
}

// everything is all rows of all tables that tables names.
func everything(ctx context.Context, c *sql.Conn) (map[string]string, error) {
	all, err := tables(ctx, c)
	if err != nil {
		return nil, err
	}
	parts := make(map[string]string)
	for table := range all {
		if parts[table], err = rows(ctx, c, "SELECT * FROM "+table); err != nil {
			return nil, err
		}
	}
	return parts, nil
}
