package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pikarc/server/storage"
)

// Actions are links by which one person decides what a message asks. Opened,
// each shows a page that asks again; only a POST to it decides.
type Actions struct {
	Approve, Deny string
}

// hidden are the actions as a record of what was sent shows them: whoever reads
// the record must not be able to decide.
func (a *Actions) hidden() *Actions {
	if a == nil {
		return nil
	}
	return &Actions{Approve: "https://hidden.invalid/approve", Deny: "https://hidden.invalid/deny"}
}

// message is what an endpoint is told, before it has the form of its kind.
type message struct {
	id        string
	event     storage.EventKind
	at        time.Time
	workspace storage.Workspace
	data      json.RawMessage
	title     string // one line
	text      string // one line; empty when the title says it all
	link      string // to the page that shows more
	level     level
	actions   *Actions // nil where there is nothing to decide
}

// level is how urgent a message is.
type level int

const (
	// levelInfo is something to know.
	levelInfo level = iota
	levelGood       // something is over
	// levelWarn is something to look at.
	levelWarn
	// levelBad is something to act on.
	levelBad
)

// facts are an event's data, for texts. Values that agents or strangers have
// chosen are made harmless for every format here; each format escapes besides.
type facts map[string]any

// text is a value for a line of text; empty when there is none.
func (f facts) text(name string) string {
	switch v := f[name].(type) {
	case nil:
		return ""
	case string:
		return clean(v)
	case json.Number:
		return v.String()
	default:
		return clean(fmt.Sprint(v))
	}
}

// usd formats an amount with two decimals at least; a budget that is not set reads as no limit.
func (f facts) usd(name string) string {
	n, ok := f[name].(json.Number)
	if !ok {
		return "no limit"
	}
	whole, decimals, _ := strings.Cut(n.String(), ".")
	const shown = 2
	for len(decimals) < shown {
		decimals += "0"
	}
	return "$" + whole + "." + decimals
}

// quoted is a value in quotes.
func (f facts) quoted(name string) string { return `"` + f.text(name) + `"` }

// clock is the time of day of a value that is an instant.
func (f facts) clock(name string) string {
	at, err := time.Parse(time.RFC3339, f.text(name))
	if err != nil {
		return "later"
	}
	return at.UTC().Format("15:04") + " UTC"
}

// maxText is how many characters of a text a message repeats.
const maxText = 200

// clean takes from a text what could disguise or break a message: line breaks,
// control characters, marks that change the direction of what follows, and the
// sign by which readers make links.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			r = ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), !unicode.IsPrint(r):
			continue
		}
		if n++; n > maxText {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "://", ":\u200b//")
}

// newMessage puts into words what a delivery tells.
func newMessage(o storage.Outgoing, d storage.Delivery, publicURL string, actions *Actions) (message, error) {
	m := message{
		id: d.ID.String(), event: d.Event, at: d.At(), workspace: o.Workspace, data: d.Data, actions: actions,
	}
	f := facts{}
	reader := json.NewDecoder(strings.NewReader(string(d.Data)))
	reader.UseNumber()
	if err := reader.Decode(&f); err != nil {
		return m, fmt.Errorf("read what a delivery tells: %w", err)
	}
	var page string
	m.title, m.text, page, m.level = describe(d.Event, f)
	if f["status"] == "resolved" {
		m.level = levelGood
	}
	m.link = strings.TrimSuffix(publicURL, "/") + page
	return m, nil
}

// describe says in a title and a text what happened, on which page there is
// more, and how bad it is.
func describe(event storage.EventKind, f facts) (title, text, page string, l level) {
	resolved := f["status"] == "resolved"
	switch event {
	case storage.BudgetThreshold:
		return describeBudget(f, resolved)
	case storage.BudgetForecast:
		if resolved {
			return "The daily budget will last after all", spentOf(f), "/limits", levelGood
		}
		return "The daily budget will be spent at " + f.clock("reached_at"),
			spentOf(f) + " At this rate (" + f.usd("usd_per_minute") + " a minute) the rest is spent by then.", "/overview", levelWarn
	case storage.SpendSpike:
		rates := f.usd("usd_per_hour") + " in the last hour, usually " + f.usd("usual_usd_per_hour") + "."
		if resolved {
			return "Spending is back to usual", rates, "/overview", levelGood
		}
		if f["factor"] == nil {
			return "Spending is far above the usual", rates, "/overview", levelWarn
		}
		return "Spending is " + f.text("factor") + " times the usual", rates, "/overview", levelWarn
	case storage.KillSwitchChanged:
		by, _ := f["by"].(map[string]any)
		who := facts(by).text("name")
		if who != "" {
			who = "By " + who + "."
		}
		if f["reason"] != nil {
			who = strings.TrimSpace(who + " " + f.quoted("reason"))
		}
		if f["active"] == true {
			return "All agents are stopped: the kill switch is on", who, "/overview", levelBad
		}
		return "Agents may run again: the kill switch is off", who, "/overview", levelGood
	case storage.ReviewRequested, storage.ReviewDecided, storage.ReviewExpired, storage.ReviewBypassed, storage.LoopDetected:
		return describeStep(event, f)
	default:
		return describeOther(event, f, resolved)
	}
}

// spentOf tells how much of a limit is used.
func spentOf(f facts) string {
	return f.usd("spent_usd") + " of " + f.usd("limit_usd") + " are spent."
}

// describeBudget words the event that a budget or a limit is nearly used up, or no longer is.
func describeBudget(f facts, resolved bool) (title, text, page string, l level) {
	of, page := "the daily budget", "/limits"
	switch {
	case f["user_id"] != nil:
		of = "the daily budget of user " + f.quoted("user_id")
	case f["policy_name"] != nil:
		of = "the limit " + f.quoted("policy_name")
	}
	if f["resets_at"] != nil {
		text = "Resets at " + f.clock("resets_at") + "."
	}
	if f["spent_usd"] != nil {
		text = spentOf(f) + " " + text
	}
	if f["used"] != nil {
		text = f.text("used") + " of " + f.text("limit") + " " + f.text("measure") + " are used. " + text
	}
	switch {
	case resolved && f["policy_name"] != nil:
		return "There is room again in " + of, "", page, levelGood
	case f["policy_name"] != nil && f.text("percent") == "100":
		return "All of " + of + " is used", text, page, levelBad
	case resolved && f["reason"] == "window_over":
		return "A new day begins for " + of, "", page, levelGood
	case resolved:
		return "There is room again in " + of, text, page, levelGood
	case f.text("percent") == "100":
		return "All of " + of + " is spent: agents are refused", text, page, levelBad
	default:
		return f.text("percent") + " % of " + of + " is spent", text, page, levelWarn
	}
}

// describeStep is for what is said of one step of a run.
func describeStep(event storage.EventKind, f facts) (title, text, page string, l level) {
	page = "/reviews"
	if run := f.text("run_id"); run != "" && event != storage.ReviewRequested {
		page = "/runs/" + run
	}
	// The most telling name of what the agent wanted to do.
	what, policy := f.text("tool_name"), ""
	if what == "" {
		what = f.text("model")
	}
	if what == "" {
		what = "a step"
	}
	if f["policy_name"] != nil {
		policy = "Policy " + f.quoted("policy_name") + ". "
	}
	if f["user_id"] != nil {
		policy += "User " + f.quoted("user_id") + ". "
	}
	if message := f.text("message"); message != "" {
		policy += message
	}
	text = strings.TrimSpace(policy)
	switch event {
	case storage.ReviewRequested:
		return "A person is asked: may an agent call " + what + "?", text, page, levelWarn
	case storage.ReviewDecided:
		verdict := f.text("status")
		if resolution := f.text("resolution"); resolution != "" {
			verdict = resolution
		}
		return "A review was decided: " + verdict + " (" + what + ")", text, page, levelInfo
	case storage.ReviewExpired:
		return "Nobody answered in time: " + what + " was not allowed", text, page, levelWarn
	case storage.ReviewBypassed:
		return "An agent went ahead without an approval: " + what, text, page, levelBad
	default:
		return "An agent repeats itself: " + what, text, page, levelWarn
	}
}

// describeOther words the events that name no budget and no run.
func describeOther(event storage.EventKind, f facts, resolved bool) (title, text, page string, l level) {
	switch event {
	case storage.UnpricedModelUsed:
		name := "a model without a name"
		if f["model"] != nil {
			name = "model " + f.quoted("model")
		}
		return "There is no price for " + name, "Its tokens are counted, its cost is not. Set a price.", "/prices", levelWarn
	case storage.KeyRegenerated:
		return "The API key was regenerated", "The new one begins with lg_" + f.text("prefix") + ".", "/api-keys", levelInfo
	case storage.SignInRefused:
		return "A sign-in as " + f.text("email") + " was refused", "From " + f.text("address") + ".", "/audit", levelWarn
	case storage.VerifyFailed:
		if resolved {
			return "The books are right again", "", "/overview", levelGood
		}
		return "The books are wrong", f.text("differences") + " differences. Run pikarc verify on the server.", "/overview", levelBad
	case storage.BackupFailed:
		if resolved {
			return "Backups succeed again", "", "/overview", levelGood
		}
		return "The backup failed", f.text("error"), "/overview", levelBad
	case storage.DiskLow:
		free := f.text("free_percent") + " % of the disk is free."
		if resolved {
			return "There is room on the disk again", free, "/overview", levelGood
		}
		return "The disk is nearly full", free, "/overview", levelBad
	case storage.TestEvent:
		return "This is a test", "The endpoint works.", "/notifications", levelInfo
	default:
		return event.String(), "", "/notifications", levelInfo
	}
}
