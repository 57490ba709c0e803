package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
)

const envSecret = "correct horse battery staple, 32+"

func testSecret(t testing.TB) auth.Secret {
	t.Helper()
	secret, err := auth.LoadSecret(t.TempDir(), envSecret)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// renderings is every way by which a value gets into a log, an error or an
// answer by accident.
func renderings(t *testing.T, value any) map[string]string {
	t.Helper()
	out := map[string]string{
		"error":      fmt.Errorf("login with %v failed", value).Error(),
		"in a slice": fmt.Sprintf("%+v %#v", []any{value}, []any{value}),
		"in a field": fmt.Sprintf("%+v %#v", struct{ Value any }{value}, struct{ Value any }{value}),
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%y"} {
		out[verb] = fmt.Sprintf(verb, value)
	}
	encoded, err := json.Marshal(map[string]any{"value": value})
	if err != nil {
		t.Fatal(err)
	}
	out["json"] = string(encoded)
	var log bytes.Buffer
	for _, logger := range []*slog.Logger{
		slog.New(slog.NewJSONHandler(&log, nil)), slog.New(slog.NewTextHandler(&log, nil)),
	} {
		logger.Info("event", "value", value, "nested", struct{ Value any }{value}, slog.Group("group", "value", value))
	}
	out["slog"] = log.String()
	return out
}

// spellings are the ways in which bytes can show up in a rendering.
func spellings(secret []byte) []string {
	return []string{
		string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		hex.EncodeToString([]byte(hex.EncodeToString(secret))), base64.StdEncoding.EncodeToString(secret),
		strings.Trim(fmt.Sprint(secret), "[]"), strings.Trim(fmt.Sprintf("%#v", secret)[len("[]byte"):], "{}"),
	}
}

func wantNoLeak(t *testing.T, rendered map[string]string, secret []byte) {
	t.Helper()
	for how, text := range rendered {
		for _, spelling := range spellings(secret) {
			if strings.Contains(text, spelling) {
				t.Errorf("%s leaks the secret: %s", how, text)
			}
		}
	}
}

func TestAPIKeyShowsItsPrefixOnly(t *testing.T) {
	key, err := auth.ParseAPIKey(sampleKey)
	if err != nil {
		t.Fatal(err)
	}
	rendered := renderings(t, key)
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if rendered[verb] != "lg_0a1b2c3d_***" {
			t.Errorf("%s prints %s", verb, rendered[verb])
		}
	}
	if want := "auth.APIKey(lg_0a1b2c3d_***)"; rendered["%#v"] != want {
		t.Errorf("%%#v prints %s, want %s", rendered["%#v"], want)
	}
	if strings.Count(rendered["slog"], "lg_0a1b2c3d_***") < 4 {
		t.Errorf("slog does not show the prefix: %s", rendered["slog"])
	}
	secret, _ := hex.DecodeString(sampleSecret)
	wantNoLeak(t, rendered, secret)
	wantNoLeak(t, rendered, []byte(sampleSecret))
	wantNoLeak(t, renderings(t, &key), []byte(sampleSecret))
}

func TestSecretShowsNothing(t *testing.T) {
	secret := testSecret(t)
	rendered := renderings(t, secret)
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if rendered[verb] != "***" {
			t.Errorf("%s prints %s", verb, rendered[verb])
		}
	}
	if rendered["%#v"] != "auth.Secret(***)" || rendered["json"] != `{"value":"***"}` {
		t.Errorf("%%#v prints %s, json %s", rendered["%#v"], rendered["json"])
	}
	if strings.Count(rendered["slog"], "***") < 4 {
		t.Errorf("slog does not say that it redacted: %s", rendered["slog"])
	}
	for _, value := range []any{secret, &secret} {
		wantNoLeak(t, renderings(t, value), auth.Root(secret))
		wantNoLeak(t, renderings(t, value), []byte(envSecret))
	}
}

// fmt cannot call String on an unexported field, so there the layout of the
// types has to hide the secret.
func TestUnexportedFieldsOfOthersDoNotLeak(t *testing.T) {
	secret := testSecret(t)
	key, err := auth.ParseAPIKey(sampleKey)
	if err != nil {
		t.Fatal(err)
	}
	type config struct {
		secret auth.Secret
		key    auth.APIKey
	}
	rendered := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%w", "%y"} {
		rendered["config as "+verb] = fmt.Sprintf(verb, config{secret, key})
		rendered["config pointer as "+verb] = fmt.Sprintf(verb, &config{secret, key})
		rendered["list as "+verb] = fmt.Sprintf(verb, []*config{{secret, key}})
		rendered["map as "+verb] = fmt.Sprintf(verb, map[string]config{"a": {secret, key}})
		rendered["Tokens as "+verb] = fmt.Sprintf(verb, *auth.NewTokens(secret, time.Hour, time.Now))
	}
	wantNoLeak(t, rendered, []byte(sampleSecret))
	wantNoLeak(t, rendered, auth.Root(secret))
	wantNoLeak(t, rendered, auth.TokenKey(secret))
}
