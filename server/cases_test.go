package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// apiCase is one call, its whole answer, and what it leaves behind. Path and
// body may name what makeFixture made: {run}, {step}, {denied}, {ended}, {key}, {email}.
type apiCase struct {
	name   string
	plan   plans.ID // scale when empty
	method string
	path   string
	as     string // key, admin (a key of that scope), token, or "" for nobody
	body   string
	status int
	// want is the answer's body; what is random in it stands as <id>, <key>,
	// <prefix> or <token>. Empty when another test looks at it.
	want string
	// changes names the parts of the workspace that look different afterwards.
	changes string
}

// unknownID is an id that nothing has.
const unknownID = "01a00000-0000-7000-8000-000000000000"

// fixture is a workspace in which a little has happened, a second ago.
type fixture struct {
	account
	names map[string]string // placeholders and what they stand for
}

// makeFixture makes, past the API: user ada with a RUNNING run, in which one
// step is open and one was denied; a COMPLETED run of bob's; a price.
func (w *world) makeFixture(plan plans.ID) fixture {
	w.t.Helper()
	w.clock.set(time.Date(2026, 11, 23, 7, 8, 29, 123e6, time.UTC))
	f := fixture{account: w.account(plan)}
	f.admin = w.keyOf(f.account, storage.ScopeAdmin)
	spare, err := w.store.CreateKey(w.t.Context(), f.workspace, storage.NewKey{Label: "spare", ExpiresAt: w.clock.now().Add(time.Hour)})
	w.must(err)
	start := func(user, metadata string) uuid.UUID {
		a, err := w.store.StartRun(w.t.Context(), storage.Caller{Workspace: f.workspace}, storage.NewRun{UserID: user, Metadata: []byte(metadata)}, guard.Decide)
		w.must(err)
		return a.ID
	}
	step := func(run uuid.UUID, in storage.NewStep) uuid.UUID {
		a, err := w.store.CreateStep(w.t.Context(), storage.Caller{Workspace: f.workspace}, run, in, guard.Decide)
		w.must(err)
		return a.ID
	}
	model, tool := "gpt-4o", "search"
	ended := start("bob", `{}`)
	_, err = w.store.EndRun(w.t.Context(), storage.Caller{Workspace: f.workspace}, ended, storage.RunCompleted, storage.EndedByClient)
	w.must(err)
	w.clock.advance(time.Second)
	run := start("ada", `{"ticket":7}`)
	open := step(run, storage.NewStep{Type: storage.ParseStepType("MODEL_CALL"), Sequence: 1, Model: &model, InputData: []byte(`{"prompt":"hi"}`)})
	_, err = w.store.BlockUser(w.t.Context(), f.workspace, "ada", nil)
	w.must(err)
	denied := step(run, storage.NewStep{Type: storage.ParseStepType("TOOL_CALL"), Sequence: 2, ToolName: &tool})
	_, err = w.store.UnblockUser(w.t.Context(), f.workspace, "ada")
	w.must(err)
	_, err = w.store.SetPrice(w.t.Context(), f.workspace, storage.ModelPrice{Model: model, Input: 2_500_000, Output: 10_000_000, Active: true})
	w.must(err)
	hook, _, err := w.store.CreateEndpoint(w.t.Context(), f.workspace, storage.NewEndpoint{
		Kind: storage.Webhook, Label: "on call", Address: "https://hooks.example.com/pikarc", Events: storage.EventsOf(storage.ReviewRequested),
	})
	w.must(err)
	delivery, err := w.store.TestEndpoint(w.t.Context(), f.workspace, hook.ID)
	w.must(err)
	w.clock.advance(time.Second)
	view, err := w.store.SaveView(w.t.Context(), f.workspace, "Billing", "tag=agent%3Abilling")
	w.must(err)
	f.names = map[string]string{
		"{run}": run.String(), "{step}": open.String(), "{denied}": denied.String(), "{ended}": ended.String(),
		"{email}": f.email, "{session}": f.session, "{key}": spare.ID.String(), "{view}": view.ID.String(),
		"{endpoint}": hook.ID.String(), "{delivery}": delivery.ID.String(),
		"{review}": uuid.Must(uuid.NewV7()).String(), "{grant}": uuid.Must(uuid.NewV7()).String(),
		"{reviewed}": uuid.Must(uuid.NewV7()).String(),
	}
	w.addReview(f)
	return f
}

// addReview makes it look as if a person had been asked about a step of the
// ended run, by a policy "deploys" that is gone, and had given a grant before.
// The step is in no list of the run's, so that nothing else shows it.
func (w *world) addReview(f fixture) {
	w.t.Helper()
	hex := func(name string) string { return "x'" + strings.ReplaceAll(f.names[name], "-", "") + "'" }
	names := strings.NewReplacer("WS", fmt.Sprint(int64(f.workspace)), "REVIEW", hex("{review}"), "GRANT", hex("{grant}"),
		"STEP", hex("{reviewed}"), "RUN", "(SELECT id FROM runs WHERE uuid = "+hex("{ended}")+")")
	for _, statement := range []string{
		`INSERT INTO policies (workspace_id, name, version, counts_from, is_deleted) VALUES (WS, 'deploys', 1, 1, 1)`,
		`INSERT INTO policy_versions SELECT id, 1, NULL, 0, 'ann' FROM policies WHERE workspace_id = WS`,
		`INSERT INTO policy_counters SELECT workspace_id, id, 1, '', 7, 0 FROM policies WHERE workspace_id = WS`,
		`INSERT INTO policy_days SELECT workspace_id, 0, id, 3, 1 FROM policies WHERE workspace_id = WS`,
		`INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at, tool_name) VALUES (0, RUN, STEP, 1, 2, 4, 1000, 'deploy')`,
		`UPDATE steps SET policies = (SELECT json_array(json_array(id, 3)) FROM policies WHERE workspace_id = WS) WHERE uuid = STEP`,
		`INSERT INTO run_actions VALUES (RUN, x'0000000000000000')`,
		`INSERT INTO reviews (uuid, workspace_id, run_id, segment, step_uuid, policy_id, policy_version, resolution, action_hash,
				expires_at, decided_at)
			SELECT REVIEW, WS, RUN, 0, STEP, id, 1, 4, zeroblob(32), 290000, 1000 FROM policies WHERE workspace_id = WS`,
		`INSERT INTO grants (uuid, workspace_id, policy_id, policy_version, scope, tool_name, uses, used, expires_at)
			SELECT GRANT, WS, id, 1, 3, 'deploy', 1, 0, 9000000000000 FROM policies WHERE workspace_id = WS`,
		`INSERT INTO step_grants SELECT RUN, STEP, id FROM grants WHERE workspace_id = WS`,
	} {
		w.exec(names.Replace(statement))
	}
}

// fill puts the fixture's names in.
func (f fixture) fill(text string) string {
	for name, value := range f.names {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

// mask takes them out again, with everything else that is random.
func (f fixture) mask(body []byte) string {
	text := string(body)
	for name, value := range f.names {
		text = strings.ReplaceAll(text, value, name)
	}
	return mask(text)
}

func mask(text string) string {
	for _, m := range []struct{ pattern, with string }{
		{`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`, "<id>"},
		{`whsec_[\w+/]{43}=`, "<secret>"},
		{`lg_[0-9a-f]{8}_[0-9a-f]{64}`, "<key>"},
		{`"prefix":"[0-9a-f]{8}"`, `"prefix":"<prefix>"`},
		{`"requested_at":"[^"]*"`, `"requested_at":<requested>`},   // of a random id
		{`"last_used_at":("[^"]*"|null)`, `"last_used_at":<used>`}, // also by the cases before
		{`eyJ[\w-]+\.[\w-]+\.[\w-]+`, "<token>"},
		{`"file":{"bytes":\d+`, `"file":{"bytes":<bytes>`},
		{`"(free|log)_bytes":\d+`, `"${1}_bytes":<bytes>`},
		{`erased-[0-9a-f]{16}`, "erased-<random>"},
		{`"slug":"my-workspace-[0-9a-f]{8}"`, `"slug":"my-workspace"`}, // each but the first of a server
	} {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.with)
	}
	return text
}

// credential is what the case sends of an account.
func (c apiCase) credential(a account) string {
	switch c.as {
	case "key":
		return a.key
	case "admin":
		return a.admin
	case "token":
		return a.token
	default:
		return ""
	}
}

// scene is a fixture with how it looks.
type scene struct {
	fixture
	looks map[string]string
}

// run makes the call, checks all that the case says, and returns how the scene looks now.
func (c apiCase) run(w *world, s scene) map[string]string {
	w.t.Helper()
	var body any
	if c.body != "" {
		body = s.fill(c.body)
	}
	r := w.call(c.method, s.fill(c.path), c.credential(s.account), body).want(c.status)
	if got := s.mask(r.body); c.want != "" && got != c.want {
		w.t.Errorf("%s answered\n got %s\nwant %s", r.what, got, c.want)
	}
	after := w.look(s.account)
	if got := changes(s.looks, after); got != c.changes {
		w.t.Errorf("%s changed %q, want %q", r.what, got, c.changes)
	}
	return after
}

// runCases plays each case in a fixture that looks untouched: that of the case
// before it, if that case changed nothing, else a new one.
func runCases(t *testing.T, w *world, cases []apiCase) {
	t.Helper()
	scenes := make(map[plans.ID]scene)
	for _, c := range cases {
		t.Run(c.method+" "+c.path+" "+c.name, func(t *testing.T) {
			w := w.in(t)
			plan := c.plan
			if plan == "" {
				plan = plans.Scale
			}
			s, untouched := scenes[plan]
			if !untouched {
				s.fixture = w.makeFixture(plan)
				s.looks = w.look(s.account)
				scenes[plan] = s
			}
			if changes(s.looks, c.run(w, s)) != "" || t.Failed() {
				delete(scenes, plan)
			}
		})
	}
}

// look shows all that a tenant can see, part by part.
func (w *world) look(a account) map[string]string {
	w.t.Helper()
	ctx, ws := w.t.Context(), a.workspace
	parts := make(map[string]string)
	add := func(part string, v any, err error) {
		w.t.Helper()
		w.must(err)
		b, err := json.Marshal(v)
		w.must(err)
		parts[part] += string(b)
	}
	workspace, err := w.store.Workspace(ctx, ws)
	add("workspace", workspace, err)
	owner, err := w.store.Account(ctx, a.id)
	add("account", owner, err)
	if claims, err := auth.NewTokens(w.secret, tokenTTL, w.clock.now).Parse(a.token); err == nil { // it may have expired
		session, err := w.store.TokenCredential(ctx, a.id, a.workspaceID, claims.Session)
		add("account", session, err)
	}
	key, err := w.store.APIKey(ctx, ws)
	add("key", key, err)
	keys, _, err := w.store.APIKeys(ctx, ws, storage.KeyFilter{Limit: 100})
	for i := range keys {
		keys[i].LastUsedAt, keys[i].RunningRuns = time.Time{}, 0 // looking is use, and runs are a part of their own
	}
	add("keys", keys, err)
	endpoints, err := w.store.Endpoints(ctx, ws)
	add("endpoints", endpoints, err)
	for _, e := range endpoints {
		told, _, err := w.store.Deliveries(ctx, ws, e.ID, storage.DeliveryFilter{Limit: 100})
		add("endpoints", told, err)
	}
	prices, err := w.store.Prices(ctx, ws, true)
	add("prices", prices, err)
	users, _, err := w.store.Users(ctx, ws, storage.UserFilter{Limit: 100})
	add("users", users, err)
	usage, err := w.store.Usage(ctx, ws)
	add("usage", usage, err)
	days, err := w.store.DailyUsage(ctx, ws, 2, true)
	add("usage", days, err)
	runs, _, err := w.store.Runs(ctx, ws, storage.RunFilter{Limit: 100})
	for i := range runs {
		runs[i].LastCallAt = time.Time{} // which every call moves
	}
	add("runs", runs, err)
	for _, run := range runs {
		detail, err := w.store.Run(ctx, ws, run.ID, "")
		detail.LastCallAt = time.Time{}
		add("runs", detail, err)
	}
	return parts
}

// changes names the parts that differ, in alphabetical order.
func changes(before, after map[string]string) string {
	var parts []string
	for part := range after {
		if before[part] != after[part] {
			parts = append(parts, part)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// detail is the body of an error.
func detail(sentence string) string {
	return string(fmt.Appendf(nil, `{"detail":%q}`, sentence))
}

// problem is one entry of a 422; ctx may be empty.
func problem(kind, loc, msg, input, ctx string) string {
	if ctx != "" {
		ctx = `,"ctx":` + ctx
	}
	return fmt.Sprintf(`{"type":%q,"loc":%s,"msg":%q,"input":%s%s}`, kind, loc, msg, input, ctx)
}

func problems(list ...string) string {
	return `{"detail":[` + strings.Join(list, ",") + `]}`
}

// otherForm adds the trailing slash to a path, or takes it away.
func otherForm(path string) string {
	path, query, found := strings.Cut(path, "?")
	bare, had := strings.CutSuffix(path, "/")
	if !had {
		bare += "/"
	}
	if found {
		return bare + "?" + query
	}
	return bare
}

// isAgentCall reports whether a path is one of the calls whose unknown fields are ignored.
func isAgentCall(path string) bool { return strings.HasPrefix(path, "/v1/runs/") }

func success(status int) bool { return status >= http.StatusOK && status < http.StatusMultipleChoices }
