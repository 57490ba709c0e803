package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/storage"
)

// object is a JSON object of a message. Marshalling it escapes what HTML would read.
type object map[string]any

// request is a message in the form of its endpoint.
type request struct {
	url    string
	header http.Header
	body   []byte
}

// jsonRequest is a POST of a body as JSON.
func jsonRequest(to string, body any) (request, error) {
	text, err := json.Marshal(body)
	return request{url: to, header: http.Header{"Content-Type": {"application/json"}}, body: text}, err
}

// webhook is the form of Standard Webhooks 1.0. Its body is the same in every
// attempt, but for links that decide.
func webhook(m message, to string, secrets []string, now time.Time) (request, error) {
	body := struct {
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Workspace object          `json:"workspace"`
		Link      string          `json:"link"`
		Data      json.RawMessage `json:"data"`
		Actions   object          `json:"actions,omitempty"`
	}{
		Type: m.event.String(), Timestamp: m.at.UTC().Format("2006-01-02T15:04:05.000Z"),
		Workspace: object{"id": m.workspace.ID, "name": m.workspace.Name}, Link: m.link, Data: m.data,
	}
	if m.actions != nil {
		body.Actions = object{"approve_url": m.actions.Approve, "deny_url": m.actions.Deny}
	}
	r, err := jsonRequest(to, body)
	if err != nil {
		return r, err
	}
	// The time of the attempt, not of the event: receivers refuse what was signed long ago.
	seconds := strconv.FormatInt(now.Unix(), 10)
	// While a secret is replaced there are two, and either may verify.
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		if signatures[i], err = sign(secret, m.id, seconds, r.body); err != nil {
			return r, err
		}
	}
	r.header.Set("Webhook-Id", m.id)
	r.header.Set("Webhook-Timestamp", seconds)
	r.header.Set("Webhook-Signature", strings.Join(signatures, " "))
	return r, nil
}

// sign is a v1 signature of Standard Webhooks.
func sign(secret, id, seconds string, body []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return "", fmt.Errorf("read an endpoint's secret: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + seconds + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// slack puts texts into plain_text, in which nothing is read as markup, a
// mention or a link. The fallback is escaped as Slack asks.
func slack(m message, to string) (request, error) {
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	plain := func(s string) object { return object{"type": "plain_text", "text": s, "emoji": false} }
	blocks := []object{{"type": "section", "text": plain(m.title)}}
	if m.text != "" {
		blocks = append(blocks, object{"type": "context", "elements": []object{plain(m.text)}})
	}
	button := func(label, link string) object {
		return object{"type": "button", "text": plain(label), "url": link}
	}
	buttons := []object{button("Open", m.link)}
	if m.actions != nil {
		buttons = append(buttons, button("Approve…", m.actions.Approve), button("Deny…", m.actions.Deny))
	}
	blocks = append(blocks, object{"type": "actions", "elements": buttons})
	return jsonRequest(to, object{
		"text": escape.Replace(m.title), "blocks": blocks, "mrkdwn": false, "unfurl_links": false, "unfurl_media": false,
	})
}

// discord reads Markdown, so every mark is escaped; it may mention nobody.
func discord(m message, to string) (request, error) {
	description := escapeDiscord(m.text)
	if m.actions != nil {
		description += "\n[Approve…](" + m.actions.Approve + ") · [Deny…](" + m.actions.Deny + ")"
	}
	colours := map[level]int{levelInfo: 0x3b4fd8, levelGood: 0x1a7f37, levelWarn: 0xd8a027, levelBad: 0xc2332d}
	return jsonRequest(to, object{
		"embeds": []object{{
			"title": escapeDiscord(m.title), "description": description, "url": m.link, "color": colours[m.level],
			"timestamp": m.at.UTC().Format(time.RFC3339),
		}},
		// An empty list allows none, whatever the escaping has missed.
		"allowed_mentions": object{"parse": []string{}},
	})
}

// escapeDiscord escapes what Discord reads as Markdown or as a mention: a user's name must not call
// everybody.
func escapeDiscord(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\*_~`|>#[]()<@-:", r) {
			b.WriteRune('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// teams is an adaptive card for a workflow's webhook. A RichTextBlock reads no
// Markdown, as a TextBlock would.
func teams(m message, to string) (request, error) {
	line := func(text string, more object) object {
		run := object{"type": "TextRun", "text": text}
		for name, value := range more {
			run[name] = value
		}
		return object{"type": "RichTextBlock", "inlines": []object{run}}
	}
	colours := map[level]string{levelInfo: "default", levelGood: "good", levelWarn: "warning", levelBad: "attention"}
	body := []object{line(m.title, object{"weight": "bolder", "color": colours[m.level]})}
	if m.text != "" {
		body = append(body, line(m.text, nil))
	}
	open := func(title, link string) object { return object{"type": "Action.OpenUrl", "title": title, "url": link} }
	actions := []object{open("Open", m.link)}
	if m.actions != nil {
		actions = append(actions, open("Approve…", m.actions.Approve), open("Deny…", m.actions.Deny))
	}
	card := object{
		"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
		"body": body, "actions": actions,
	}
	return jsonRequest(to, object{
		"type": "message",
		"attachments": []object{{
			"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": card,
		}},
	})
}

// ntfy publishes as JSON to the server of a topic's URL: headers could be broken
// by a text. Its texts are plain unless a message says otherwise.
func ntfy(m message, to string) (request, error) {
	u, err := url.Parse(to)
	if err != nil {
		return request{}, err
	}
	// Published as JSON, a message names its topic in the body, and goes to the URL above it.
	topic := path.Base(u.Path)
	u.Path, u.RawPath = path.Dir(u.Path), ""
	priorities := map[level]int{levelInfo: 3, levelGood: 3, levelWarn: 4, levelBad: 5}
	text := m.text
	if text == "" {
		text = m.title
	}
	body := object{
		"topic": topic, "title": m.title, "message": text, "priority": priorities[m.level], "click": m.link,
	}
	if m.actions != nil {
		post := func(label, link string) object {
			// The app sends the POST itself, so a tap decides, without a page that asks again.
			return object{"action": "http", "label": label, "url": link, "method": "POST", "clear": true}
		}
		body["actions"] = []object{post("Approve", m.actions.Approve), post("Deny", m.actions.Deny)}
	}
	return jsonRequest(u.String(), body)
}

// CheckURL says why a URL cannot be an endpoint's; nil for one that can.
func CheckURL(text string, kind storage.EndpointKind, private bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errBadURL
	case u.Scheme == "http" && !private:
		return errPlainHTTP
	case u.Scheme != "http" && u.Scheme != "https":
		return errBadURL
	// It would be shown with the address, and a password belongs in no list.
	case u.User != nil:
		return errUserInfo
	case kind == storage.Ntfy && strings.Trim(u.Path, "/") == "":
		return errNoTopic
	default:
		return nil
	}
}
