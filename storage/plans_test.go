package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/sqlite"
)

// call uses an exported method of Store in each form that makes a query of its own.
type call struct {
	method string
	do     func() error
}

// calls are all of Store's methods, in an order in which each finds something to do.
func calls(t *testing.T, w *world) []call {
	ctx := t.Context()
	a, space, k, err := w.CreateAccount(ctx, NewAccount{Email: "a@example.com", PasswordHash: "x", Plan: plans.Scale})
	w.must(err)
	ws := space.Key()
	return slices.Concat(endpointCalls(w, ws), accountCalls(w, a, space, k), runCalls(w, ws), policyCalls(w, ws), billingCalls(w, ws), []call{
		{"Users", func() error { return errors.Join(listUsersInEachForm(w, ws)...) }},
		{"BlockUser", func() error { _, err := w.BlockUser(ctx, ws, "u", nil); return err }},
		{"UnblockUser", func() error { _, err := w.UnblockUser(ctx, ws, "u"); return err }},
		{"SetPrice", func() error {
			w.price(ws, "new", 1, 1)
			_, err := w.SetPrice(ctx, ws, ModelPrice{Model: "alias", SameAs: "new", Active: true})
			run := w.start(ws, "u").ID
			step := w.createModelCall(ws, run, "alias")
			w.patch(ws, run, step, 5, 6)
			w.patch(ws, run, step, 7, 8)
			return err
		}},
		{"FollowPrice", func() error { _, err := w.FollowPrice(ctx, ws, "alias"); return err }},
		{"Reprice", func() error {
			run := w.start(ws, "u").ID
			for range 200 { // of which one slice changes a part
				w.patch(ws, run, w.createModelCall(ws, run, "priced later"), 5, 6)
			}
			w.price(ws, "priced later", 1, 1)
			out, err := w.Reprice(ctx, ws, Repricing{Model: "priced later"})
			return errors.Join(err, atLeastOne(int(out.Steps)))
		}},
		{"Prices", func() error { _, err := w.Prices(ctx, ws, true); return err }},
		{"Usage", func() error { _, err := w.Usage(ctx, ws); return err }},
		{"DailyUsage", func() error { _, err := w.DailyUsage(ctx, ws, 365, true); return err }},
		{"Burn", func() error {
			budget := plans.Budget{Limit: 1, Set: true}
			_, err := w.UpdateWorkspace(ctx, ws, WorkspaceChange{UserDailyBudget: &budget})
			b, err2 := w.Burn(ctx, ws)
			budget.Set = false
			_, err3 := w.UpdateWorkspace(ctx, ws, WorkspaceChange{UserDailyBudget: &budget})
			return errors.Join(err, err2, err3, atLeastOne(len(b.Runs)))
		}},
		{"FoldMinutes", func() error {
			run := w.start(ws, "burning").ID
			step := w.createModelCall(ws, run, "new")
			w.patch(ws, run, step, 500_000, 6)
			w.Advance(3 * time.Hour)
			n, err := w.FoldMinutes(ctx)
			w.patch(ws, run, step, 900_000, 6) // in an hour by then
			return errors.Join(err, atLeastOne(n))
		}},
		{"UsageBy", func() error {
			for _, group := range append(UsageGroups(), string(ByTag("agent"))) {
				_, err := w.UsageBy(ctx, ws, UsageQuery{
					Group: UsageGroup(group), From: noon(), To: w.Now().Add(24 * time.Hour), ByDay: true,
					BeforeFrom: noon().Add(-24 * time.Hour), BeforeTo: noon(), Limit: 2,
				})
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"IndexRuns", func() error {
			run := w.start(ws, "u").ID
			w.report(ws, run, w.createModelCall(ws, run, "asked"), StepUpdate{Model: new("answered"), Error: new("TimeoutError")})
			w.must(w.write(ctx, modeCached, func(tx *Tx) error { tx.cache.segment++; return nil }))
			w.step(ws, run)
			n, err := w.IndexRuns(ctx)
			return errors.Join(err, atLeastOne(n))
		}},
		{"RunTotals", func() error {
			for _, f := range searchForms() {
				w.searched = 1
				_, wide := w.RunTotals(ctx, ws, f, RunPieces{})
				w.searched = maxSearched
				_, err := w.RunTotals(ctx, ws, f, RunPieces{Most: 100})
				w.must(errors.Join(err, wide))
			}
			return nil
		}},
		{"RunChoices", func() error {
			c, err := w.RunChoices(ctx, ws)
			return errors.Join(err, atLeastOne(len(c.TagKeys)*len(c.Tools)))
		}},
		{"ExportRuns", func() error {
			for _, f := range searchForms() {
				if err := w.ExportRuns(ctx, ws, f, func(Run) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		}},
		{"SaveView", func() error { _, err := w.SaveView(ctx, ws, "a view", "q=x"); return err }},
		{"SavedViews", func() error { views, err := w.SavedViews(ctx, ws); return errors.Join(err, atLeastOne(len(views))) }},
		{"DeleteView", func() error {
			views, err := w.SavedViews(ctx, ws)
			return errors.Join(err, w.DeleteView(ctx, ws, views[0].ID))
		}},
		{"WriteBackfill", func() error { return w.WriteBackfill(ctx, func(Backfill) error { return nil }) }},
		{"Watch", func() error { return w.Watch(ctx, func([]Change) {}) }},
		{"ChangedElsewhere", func() error { _, err := w.ChangedElsewhere(ctx, []WorkspaceKey{1}); return err }},
		{"FollowElsewhere", func() error { return w.FollowElsewhere(ctx, ws) }},
		{"UnfollowElsewhere", func() error { w.UnfollowElsewhere(ws); return nil }},
		{"LookElsewhereEvery", func() error { w.LookElsewhereEvery(); return nil }},
		{"Quiet", func() error { _, err := w.Quiet(ctx); return err }},
		{"Unwatch", func() error { w.Unwatch(); return nil }},
		{"Time", func() error { w.Time(); return nil }},
		{"Shared", func() error { w.Shared(); return nil }},
		{"OnDuty", func() error {
			on, end := context.WithCancel(ctx)
			w.OnDuty(on, func(context.Context) { end() }, func(error) {})
			return nil
		}},
		{"Snapshot", func() error { _, err := w.Snapshot(ctx, ws, []int64{1}); return err }},
		{"Config", func() error { _, err := w.Config(ctx, ws); return err }},
		{"Ready", func() error { return w.Ready(ctx) }},
		{"EndIdleRuns", func() error {
			w.start(ws, "u")
			w.Advance(DefaultRunIdleTimeout + time.Second)
			n, err := w.EndIdleRuns(ctx)
			return errors.Join(err, atLeastOne(n))
		}},
		{"EndRuns", func() error {
			w.start(ws, "u")
			w.Advance(time.Second)
			ended, _, err := w.EndRuns(ctx, ws, EndsOfRuns{SilentSince: w.Now(), Status: RunFailed, By: EndedByDashboard})
			return errors.Join(err, atLeastOne(len(ended)))
		}},
		{"Expire", func() error {
			w.denied(ws, "stranger")
			w.Advance(366 * 24 * time.Hour)
			n, err := w.Expire(ctx)
			return errors.Join(err, atLeastOne(n))
		}},
		{"EraseUser", func() error { return w.eraseWhatWasSaid(ws) }},
		{"EraseUsers", func() error { _, err := w.EraseUsers(ctx); return err }},
		{"Space", func() error { _, err := w.Space(ctx); return err }},
		{"Shrink", func() error { _, err := w.Shrink(ctx); return err }},
		{"Expiring", func() error {
			e, err := w.Expiring(ctx, ws, 366*24*time.Hour)
			return errors.Join(err, atLeastOne(int(e.Runs)))
		}},
		{"TotalExpiring", func() error { _, err := w.TotalExpiring(ctx, 0); return err }},
		{"Verify", func() error { _, err := w.Store.Verify(ctx); return err }},
		{"Backup", func() error { _, err := w.Store.Backup(ctx, filepath.Join(t.TempDir(), "copy.db")); return err }},
		{"Stats", func() error { return atLeastOne(int(w.Stats().FileBytes)) }},
		{"Close", func() error { return nil }}, // at the end of the test
	}, zoneCalls(w, ws))
}

func atLeastOne(n int) error {
	if n == 0 {
		return errors.New("nothing was there to do, so not every query was used")
	}
	return nil
}

func accountCalls(w *world, a Account, space Workspace, k APIKey) []call {
	ctx, ws := w.t.Context(), space.Key()
	var other APIKey
	var err error
	session := NewSession{ID: auth.SessionID{2}, Agent: "a browser", Expires: w.Now().AddDate(1, 0, 0)}
	return []call{
		{"CreateAccount", func() error {
			begun := NewSession{ID: auth.SessionID{3}, Expires: w.Now().Add(time.Hour)}
			_, _, _, err := w.CreateAccount(ctx, NewAccount{Email: "new@example.com", Plan: plans.Pro, Session: &begun})
			return err
		}},
		{"AccountByEmail", func() error { _, err := w.AccountByEmail(ctx, a.Email); return err }},
		{"Account", func() error { _, err := w.Account(ctx, a.ID); return err }},
		{"ChangePassword", func() error { _, err := w.ChangePassword(ctx, a.ID, "x", "y", session); return err }},
		{"SignedIn", func() error {
			byAccount := WithActor(ctx, Actor{Kind: ActorAccount, Account: a.ID})
			_, err := w.BlockUser(byAccount, ws, "blocked by an account", nil)
			return errors.Join(err, w.SignedIn(ctx, a, "203.0.113.5/32", &session), w.SignedIn(ctx, Account{}, "", nil))
		}},
		{"HasSignedInFrom", func() error { _, err := w.HasSignedInFrom(ctx, a.ID, "203.0.113.5/32"); return err }},
		{"Accounts", func() error { _, err := w.Accounts(ctx); return err }},
		{"EndSession", func() error { return w.EndSession(ctx, a.ID, auth.SessionID{1}, w.Now()) }},
		{"Sessions", func() error { _, _, err := w.Sessions(ctx, a.ID); return err }},
		{"SessionUsed", func() error { w.SessionUsed(session.ID); _, err := w.RecordKeyUse(ctx); return err }},
		{"EndOtherSessions", func() error {
			now, err := w.Account(ctx, a.ID)
			w.must(err)
			_, err = w.EndOtherSessions(ctx, a.ID, now.TokenVersion, session)
			return err
		}},
		{"EndListedSession", func() error { return w.EndListedSession(ctx, a.ID, session.ID) }},
		{"EndAllSessions", func() error { return w.EndAllSessions(ctx, a.ID) }},
		{"SetPassword", func() error { return w.SetPassword(ctx, a.ID, "z") }},
		{"ChangePasswordFailed", func() error { return w.ChangePasswordFailed(ctx, a) }},
		{"Audit", func() error {
			_, _, err := w.Audit(ctx, ws, AuditFilter{Limit: 10})
			_, _, err2 := w.Audit(ctx, ws, AuditFilter{Action: ActionSignIn, Limit: 10})
			return errors.Join(err, err2)
		}},
		{"HasAccounts", func() error { _, err := w.HasAccounts(ctx); return err }},
		{"KeyCredential", func() error { _, err := w.KeyCredential(ctx, k.Prefix); return err }},
		{"CachedKey", func() error {
			if _, ok := w.CachedKey(k.Prefix); !ok {
				return errors.New("the key is not cached")
			}
			return nil
		}},
		{"InvalidateKey", func() error { w.InvalidateKey(k.Prefix); return nil }},
		{"TokenCredential", func() error { _, err := w.TokenCredential(ctx, a.ID, a.Workspace, auth.SessionID{}); return err }},
		{"APIKey", func() error { _, err := w.APIKey(ctx, ws); return err }},
		{"KeyUsed", func() error { c, _ := w.CachedKey(k.Prefix); w.KeyUsed(c.Key); return nil }},
		{"RecordKeyUse", func() error {
			n, err := w.RecordKeyUse(ctx)
			return errors.Join(err, atLeastOne(n))
		}},
		{"APIKeys", func() error {
			yes, no := true, false
			for _, active := range []*bool{nil, &yes, &no} {
				if _, _, err := w.APIKeys(ctx, ws, KeyFilter{Active: active, Limit: 1}); err != nil {
					return err
				}
			}
			return nil
		}},
		{"CreateKey", func() error { other, err = w.CreateKey(ctx, ws, NewKey{Label: "other"}); return err }},
		{"RenameKey", func() error { _, err := w.RenameKey(ctx, ws, other.ID, "another"); return err }},
		{"RevokeKey", func() error { _, err := w.RevokeKey(ctx, ws, other.ID); return err }},
		{"RotateKey", func() error {
			_, err := w.RotateKey(ctx, ws, Rotation{Label: "new", Overlap: time.Hour})
			_, err2 := w.RotateKey(ctx, ws, Rotation{Label: "new"})
			return errors.Join(err, err2)
		}},
		{"Workspace", func() error { _, err := w.Workspace(ctx, ws); return err }},
		{"WorkspaceByEmail", func() error { _, err := w.WorkspaceByEmail(ctx, a.Email); return err }},
		{"UpdateWorkspace", func() error {
			most := int64(plans.MaxConcurrency)
			_, err := w.UpdateWorkspace(ctx, ws, WorkspaceChange{MaxConcurrentRuns: &most})
			return err
		}},
		{"SetKillSwitch", func() error {
			_, err := w.SetKillSwitch(ctx, ws, true, "loop")
			_, err2 := w.Burn(ctx, ws)
			_, err3 := w.SetKillSwitch(ctx, ws, false, "")
			return errors.Join(err, err2, err3)
		}},
		{"SetPlan", func() error { _, err := w.SetPlan(ctx, ws, space.Plan); return err }},
	}
}

func endpointCalls(w *world, ws WorkspaceKey) []call {
	ctx := w.t.Context()
	var e Endpoint
	var d Delivery
	var err error
	return []call{
		{"CreateEndpoint", func() (err error) {
			in := NewEndpoint{Kind: Webhook, Label: "on call", Address: "https://example.com", Events: AllEvents}
			e, _, err = w.CreateEndpoint(ctx, ws, in)
			_, err2 := w.SetKillSwitch(ctx, ws, true, "")
			_, err3 := w.SetKillSwitch(ctx, ws, false, "")
			return errors.Join(err, err2, err3)
		}},
		{"Endpoints", func() error {
			all, err := w.Endpoints(ctx, ws)
			return errors.Join(err, atLeastOne(len(all)))
		}},
		{"Endpoint", func() error { _, err := w.Endpoint(ctx, ws, e.ID); return err }},
		{"UpdateEndpoint", func() error {
			_, err := w.UpdateEndpoint(ctx, ws, e.ID, EndpointChange{Address: new("https://example.org")})
			return err
		}},
		{"RollEndpointSecret", func() error { _, _, err := w.RollEndpointSecret(ctx, ws, e.ID, time.Hour); return err }},
		{"TestEndpoint", func() error { d, err = w.TestEndpoint(ctx, ws, e.ID); return err }},
		{"OutboxWritten", func() error { return atLeastOne(len(w.OutboxWritten())) }},
		{"DueEndpoints", func() error {
			due, _, err := w.DueEndpoints(ctx)
			return errors.Join(err, atLeastOne(len(due)))
		}},
		{"Outgoing", func() error {
			out, err := w.Outgoing(ctx, e.key, 5)
			return errors.Join(err, atLeastOne(len(out.Deliveries)))
		}},
		{"RecordAttempt", func() error { return w.RecordAttempt(ctx, e, d.ID, Attempt{At: w.Now()}) }},
		{"Resend", func() error { _, err := w.Resend(ctx, ws, e.ID, d.ID); return err }},
		{"Deliveries", func() error {
			_, next, err := w.Deliveries(ctx, ws, e.ID, DeliveryFilter{Limit: 1})
			all, _, err2 := w.Deliveries(ctx, ws, e.ID, DeliveryFilter{Limit: 1, State: DeliveryPending, Cursor: next})
			return errors.Join(err, err2, atLeastOne(len(all)))
		}},
		{"CheckAlerts", func() error { return alertCalls(w, ws) }},
		{"Alert", func() error {
			alert := func(firing bool) error { return w.Alert(ctx, ServerAlert{Kind: DiskLow, Firing: firing}) }
			return errors.Join(alert(true), alert(false))
		}},
		{"SwitchOff", func() error { return w.SwitchOff(ctx, e, OffGone) }},
		{"CancelDeliveries", func() error { return w.CancelDeliveries(ctx, e.key) }},
		{"DeleteEndpoint", func() error { _, err := w.DeleteEndpoint(ctx, ws, e.ID); return err }},
	}
}

func billingCalls(w *world, ws WorkspaceKey) []call {
	ctx := w.t.Context()
	basic, err := plans.ByID(plans.Basic)
	w.must(err)
	settle := func(event string, st SubscriptionState) error {
		read, err := w.CustomerSubscription(ctx, "cus_1")
		if err != nil {
			return err
		}
		_, err = w.Settle(ctx, Settlement{Read: read, Now: st, Event: event, Unpaid: basic})
		return err
	}
	return []call{
		{"SetCustomer", func() error { return w.SetCustomer(ctx, ws, "", "cus_1") }},
		{"CustomerSubscription", func() error { _, err := w.CustomerSubscription(ctx, "cus_1"); return err }},
		{"Settle", func() error {
			return settle("evt_1", SubscriptionState{ID: "sub_1", Status: SubscriptionPastDue, Plan: plans.Pro, PlanEndsAt: w.Now().Add(time.Second)})
		}},
		{"StripeEventHandled", func() error { _, err := w.StripeEventHandled(ctx, "evt_1"); return err }},
		{"Customers", func() error { all, err := w.Customers(ctx, 0, 1); return errors.Join(err, atLeastOne(len(all))) }},
		{"EndedPlans", func() error {
			w.Advance(time.Second)
			all, err := w.EndedPlans(ctx)
			return errors.Join(err, atLeastOne(len(all)))
		}},
		{"Billing", func() error { _, err := w.Billing(ctx, ws); return err }},
		{"DeleteOldStripeEvents", func() error {
			w.Advance(stripeEventTTL)
			n, err := w.DeleteOldStripeEvents(ctx)
			return errors.Join(err, atLeastOne(n))
		}},
	}
}

func runCalls(w *world, ws WorkspaceKey) []call {
	ctx, model, object := w.t.Context(), "gpt-4o", []byte("{}")
	var run, step Answer
	eitherWay := func(do func(Decider) error) error { return errors.Join(do(deny), do(allow)) }
	return []call{
		{"StartRun", func() error {
			return eitherWay(func(decide Decider) (err error) {
				run, err = w.StartRun(ctx, w.caller(ws), NewRun{UserID: "u", Metadata: []byte(`{"agent":"a"}`)}, decide) // new, then known
				_, err2 := w.StartRun(ctx, Caller{Workspace: ws}, NewRun{UserID: "u", Idempotency: once("k", "")}, decide)
				return errors.Join(err, err2)
			})
		}},
		{"CreateStep", func() error {
			return eitherWay(func(decide Decider) (err error) {
				step, err = w.CreateStep(ctx, Caller{Workspace: ws}, run.ID, NewStep{Type: 1, Model: &model}, decide)
				in := NewStep{Type: 1, InputData: object, Idempotency: once("k", "")}
				_, err2 := w.CreateStep(ctx, Caller{Workspace: ws}, run.ID, in, decide)
				return errors.Join(err, err2)
			})
		}},
		{"UpdateStep", func() error {
			one := int64(1)
			in := StepUpdate{Status: StepCompleted, PromptTokens: &one, CompletionTokens: &one, OutputData: object}
			_, err := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, in)
			_, again := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, in) // which the cache has dropped
			_, unknown := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, run.ID, in)
			if !errors.Is(unknown, ErrNotFound) {
				return fmt.Errorf("a step that is none: %w", unknown)
			}
			capped := StepUpdate{PromptTokens: new(int64(plans.MaxDay + 1))}
			_, tooMuch := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, capped)
			_, corrected := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, in)
			_, silent := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, StepUpdate{PromptTokens: new(int64), CompletionTokens: new(int64)})
			_, parts := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, StepUpdate{CachedTokens: new(int64(1))})
			_, none := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, step.ID, StepUpdate{CachedTokens: new(int64)})
			return errors.Join(err, again, tooMuch, corrected, silent, parts, none)
		}},
		{"RepairRun", func() error { return w.RepairRun(ctx, Caller{Workspace: ws}, run.ID, RepairedOther) }},
		{"Heartbeat", func() error { _, err := w.Heartbeat(ctx, Caller{Workspace: ws}, run.ID, guard.Decide); return err }},
		{"Runs", func() error {
			for _, form := range runForms() {
				if _, _, err := w.Runs(ctx, ws, form.filter); err != nil {
					return err
				}
			}
			for _, f := range searchForms() {
				for _, w.searched = range []int64{1, maxSearched} {
					if _, _, err := w.Runs(ctx, ws, f); err != nil {
						return err
					}
				}
			}
			return nil
		}},
		{"Run", func() error { _, err := w.Run(ctx, ws, run.ID, ""); return err }},
		{"RunWithSteps", func() error { _, err := w.RunWithSteps(ctx, ws, run.ID, "", 0); return err }},
		{"Step", func() error { _, err := w.Step(ctx, ws, run.ID, step.ID); return err }},
		{"Outline", func() error { _, _, err := w.Outline(ctx, ws, run.ID, "", MaxOutline); return err }},
		{"StepTexts", func() error {
			texts, err := w.StepTexts(ctx, ws, run.ID, []uuid.UUID{step.ID})
			return errors.Join(err, atLeastOne(len(texts)))
		}},
		{"Breakdown", func() error {
			w.price(ws, "dear", 1, 1)
			dear := w.createModelCall(ws, run.ID, "dear")
			w.patch(ws, run.ID, dear, 5, 6)
			failed := w.createModelCall(ws, run.ID, "dear")
			_, err := w.UpdateStep(ctx, Caller{Workspace: ws}, run.ID, failed, StepUpdate{Status: StepFailed})
			b, err2 := w.Breakdown(ctx, ws, run.ID)
			return errors.Join(err, err2, atLeastOne(int(boolInt(b.Dearest != nil && b.FirstFailed != nil && b.FirstDenied != nil))))
		}},
		{"Neighbours", func() error { _, err := w.Neighbours(ctx, ws, run.ID); return err }},
		{"EndRun", func() error {
			idle := func(tx *Tx) error {
				_, err := endRun(tx, Caller{Workspace: ws}, run.ID, RunFailed, EndedByIdle)
				return err
			}
			err := w.write(ctx, modeBulkSQL, idle)
			_, err2 := w.EndRun(ctx, Caller{Workspace: ws}, run.ID, RunCompleted, EndedByClient)
			return errors.Join(err, err2)
		}},
	}
}

// runForm is a list of runs whose query is its own, and the index that should serve it.
type runForm struct {
	filter RunFilter
	index  string
}

func runForms() []runForm {
	const byUser = "runs_user (workspace_id=? AND user_id=? AND uuid>? AND uuid<?)"
	const byKey = "runs_key (workspace_id=? AND key_id=? AND uuid>? AND uuid<?)"
	const byReason = "runs_reason (workspace_id=? AND deny_reason=? AND uuid>? AND uuid<?)"
	return []runForm{
		{RunFilter{Limit: 1}, "runs_uuid (workspace_id=? AND uuid>? AND uuid<?)"},
		{RunFilter{Limit: 1, Status: RunRunning}, "runs_status (status=? AND workspace_id=? AND uuid>? AND uuid<?)"},
		{RunFilter{Limit: 1, ByLastCall: true}, "runs_status (status=? AND workspace_id=?)"},
		{RunFilter{Limit: 1, Reason: guard.UserBlocked}, byReason},
		{RunFilter{Limit: 1, Status: RunBlocked, Reason: guard.UserBlocked}, byReason},
		{RunFilter{Limit: 1, Denied: true}, byReason},
		{RunFilter{Limit: 1, Denied: true, UserID: "u"}, byReason},
		{RunFilter{Limit: 1, Key: uuid.New()}, byKey},
		{RunFilter{Limit: 1, Key: uuid.New(), Status: RunRunning}, "runs_status (status=? AND workspace_id=?)"},
		{RunFilter{Limit: 1, Key: uuid.New(), Status: RunCompleted}, byKey},
		{RunFilter{Limit: 1, Key: uuid.New(), Reason: guard.UserBlocked}, byKey},
		{RunFilter{Limit: 1, Key: uuid.New(), UserID: "u"}, byKey},
		{RunFilter{Limit: 1, UserID: "u"}, byUser},
		{RunFilter{Limit: 1, UserID: "u", Status: RunRunning}, byUser},
		{RunFilter{Limit: 1, UserID: "u", Reason: guard.UserBlocked}, byReason},
		{RunFilter{Limit: 1, UserID: "u", Status: RunBlocked, Reason: guard.UserBlocked}, byReason},
	}
}

// queriesOf lists the texts that a store's connections have prepared, which
// must be idle.
func queriesOf(w *world) []string {
	all := slices.Concat(w.file().writer.(*sqlite.Conn).Queries(), w.file().pools[0].Queries(), w.file().pools[1].Queries())
	slices.Sort(all)
	return slices.Compact(all)
}

// planOf explains a query. Its parameters are null: without statistics in the
// file, SQLite plans by the text alone.
func planOf(w *world, conn *sql.Conn, query string) (lines []string) {
	w.t.Helper()
	args := 0
	for _, m := range regexp.MustCompile(`\$(\d+)`).FindAllStringSubmatch(query, -1) {
		n, err := strconv.Atoi(m[1])
		w.must(err)
		args = max(args, n)
	}
	rows, err := conn.QueryContext(w.t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, args)...)
	w.must(err)
	for rows.Next() {
		var id, parent, unused int
		var line string
		w.must(rows.Scan(&id, &parent, &unused, &line))
		lines = append(lines, line)
	}
	w.must(rows.Err())
	return lines
}

// costly matches what reads or sorts more than it was asked for: a table, an
// index, a tenant's or a status's whole part of one, or rows in no index's order.
func costly() *regexp.Regexp {
	return regexp.MustCompile(`^SCAN |\((workspace_id|status)=\?\)|^USE TEMP B-TREE|AUTOMATIC|BLOOM`)
}

// exceptions are the costly lines that may be, each in queries that contain a text, and why.
func exceptions() []struct{ line, query, why string } {
	return []struct{ line, query, why string }{
		{"SCAN part", "r.deny_reason = 7", "a page of each part of the index by reason"},
		{"USE TEMP B-TREE FOR ORDER BY", "r.deny_reason = 7", "orders a page of each part"},
		{"plan_changes_workspace (workspace_id=?)", "ORDER BY id DESC LIMIT", "the last changes, in the index's order"},
		{"SCAN a", "ON w.account_id = a.id ORDER BY a.id", "the operator's list is of all accounts"},
		{"SCAN workspaces", "SELECT id FROM workspaces", "upkeep looks at every tenant, a few times a day"},
		{"USE TEMP B-TREE FOR ORDER BY", "ORDER BY last_call_at, uuid", "the RUNNING runs of a workspace: an index by their calls costs each of them more"},
		{"runs_status (status=?)", "r.last_call_at < $2", "upkeep looks at every RUNNING run; concurrency limits them"},
		{"api_keys_open (workspace_id=?)", "FROM api_keys", "the keys that were not revoked: a hundred, and those that expired"},
		{"api_keys_first (workspace_id=?)", "FROM api_keys", "one key a workspace is the first"},
		{"api_keys_first (workspace_id=?)", "UPDATE api_keys", "one key a workspace is the first"},
		{"endpoints_workspace (workspace_id=?)", "FROM endpoints", "a workspace has 20 at most"},
		{"SCAN endpoints", "off_reason = 'DELETED'", "upkeep looks at every endpoint, a few times a day"},
		{"SCAN endpoints", "UNION SELECT workspace_id FROM alerts", "upkeep looks at all that want to be told, once a minute"},
		{"SCAN alerts", "UNION SELECT workspace_id FROM alerts", "upkeep looks at all that were told, once a minute"},
		{"SCAN deliveries USING INDEX deliveries_pending", "ORDER BY uuid LIMIT 1", "the first of what is pending, in the index's order"},
		{"models_name (workspace_id=?)", "ORDER BY name", "the price list is all of it"},
		{"SCAN days", "WITH RECURSIVE days", "30 numbers, no table"},
		{"SCAN CONSTANT ROW", "WITH RECURSIVE days", "no table"},
		{"SCAN CONSTANT ROW", "SELECT EXISTS (", "no table"},
		{"dropped_payloads USING PRIMARY KEY (workspace_id=?)", "SELECT EXISTS (", "the first of them"},
		{"SCAN e", "FROM erasures e", "erasures under way are few"},
		{"SCAN i", "LIMIT $4) i", "a piece of the audit log"},
		{"USE TEMP B-TREE FOR ORDER BY", "LIMIT $4) i", "a piece of the audit log"},
		{"SCAN r", "LIMIT $3) r", "a sample of the oldest runs"},
		{"payload_blocks_1 (workspace_id=?)", "(number)", "the first or the last block"},
		{"SCAN page", ") page JOIN runs r", "one page of ids"},
		{"USE TEMP B-TREE FOR", "ORDER BY page.", "an order of the runs that a search looks at, and of the page"},
		{"SCAN n", ") n", "the ids of a set, at most as many as a search may look at"},
		{"USE TEMP B-TREE FOR GROUP BY", "GROUP BY bucket", "pieces of time of the runs that a search looks at"},
		{"CREATE BLOOM FILTER", "r.uuid IN (", "the ids of a set"},
		{"runs_uuid (workspace_id=?)", "ORDER BY uuid DESC LIMIT 1), 0) > run_id", "the newest run"},
		{"saved_views_name (workspace_id=?)", "FROM saved_views", "a workspace's views are fifty at most"},
		{"SCAN q", "FROM unindexed_steps q", "a few of them, in their order"},
		{"USE TEMP B-TREE FOR GROUP BY", "SELECT booked_day", "the days of one run"},
		{"USE TEMP B-TREE FOR GROUP BY", "FROM tag_days", "the days asked for, of one workspace"},
		{"SCAN l", "LIMIT $3) l", "the newest segments of one run"},
		{"USE TEMP B-TREE FOR ORDER BY", "LIMIT $4) page", "one page of runs"},
		{"SCAN d", "GROUP BY", "the groups made from 30 days"},
		{"reviews_pending (workspace_id=?)", "v.resolution = 0 AND", "the steps of one workspace that wait for a person"},
		{"sqlite_autoindex_policies_1 (workspace_id=?)", "FROM policies", "at most 1,000 policies of one workspace"},
		{"SCAN p", "SELECT workspace_id, id FROM policies p", "upkeep looks at every policy, a few times a day"},
		{"USE TEMP B-TREE FOR GROUP BY", "day >= $2 AND day <= $3 GROUP BY", "30 days of one workspace"},
		{"USE TEMP B-TREE FOR GROUP BY", "AND day <= $4", "the days asked for, of one workspace"},
		{"SCAN r", "LIMIT $5) r", "the latest runs of a user"},
		{"SCAN s", "LIMIT $5) r", "the groups made from their steps"},
		{"USE TEMP B-TREE FOR GROUP BY", "LIMIT $5) r", "the latest runs of a user"},
		{"CREATE BLOOM FILTER", "name < 'tool;')", "the tools that have a price"},
		{"USE TEMP B-TREE FOR GROUP BY", "day >= $3 AND day <= $2 GROUP BY", "30 days of one workspace"},
		{"USE TEMP B-TREE FOR ORDER BY", "GROUP BY", "the groups made from 30 days"},
		{"CREATE BLOOM FILTER", "NOT IN (SELECT user_id FROM user_days", "the users of 30 days, read once"},
		{"USE TEMP B-TREE FOR ORDER BY", "ORDER BY cost_nanos DESC, sequence, uuid", "one run's steps, for the dearest"},
		{"USE TEMP B-TREE FOR GROUP BY", "GROUP BY type, model_id, tool_name", "one run's steps"},
		{"SCAN s", "GROUP BY type, model_id, tool_name", "the groups made from them"},
		{"SCAN s", "LIMIT $4) s", "one page of a run's steps"},
		{"USE TEMP B-TREE FOR ORDER BY", "ORDER BY sequence, uuid", "one run's steps: an index by sequence costs each decision more"},
	}
}

func TestNoQueryReadsMoreThanItAnswers(t *testing.T) {
	w := newWorld(t)
	for _, c := range calls(t, w) {
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.method, err)
		}
	}
	queries, conn := queriesOf(w), w.conn()
	mustCoverTheSource(t, queries)
	allowed, used, bad := exceptions(), map[int]bool{}, costly()
	for _, query := range queries {
		text := strings.Join(strings.Fields(query), " ")
		for _, line := range planOf(w, conn, query) {
			i := slices.IndexFunc(allowed, func(e struct{ line, query, why string }) bool {
				return strings.Contains(line, e.line) && strings.Contains(text, e.query)
			})
			used[i] = true
			if i < 0 && bad.MatchString(line) {
				t.Errorf("%s\n\tin %s", line, text)
			}
		}
	}
	for i, e := range allowed {
		if !used[i] {
			t.Errorf("no query needs the exception %+v any more", e)
		}
	}
}

// mustCoverTheSource wants every SQL text in the room's source among the
// queries, so that none escapes for want of a call that uses it.
func mustCoverTheSource(t *testing.T, queries []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	prepared := strings.Join(strings.Fields(strings.Join(queries, " ; ")), " ")
	isSQL, found := regexp.MustCompile(`^(SELECT|INSERT|UPDATE|DELETE|WITH|FROM|AND|ORDER BY|[a-z]+\.[a-z_]+ =) `), 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "engine_postgres.go" { // speaks to PostgreSQL
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if f, ok := n.(*ast.FuncDecl); ok && slices.Contains(postgresFunctions(), f.Name.Name) {
				return false
			}
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING || literal.Value[0] != '`' {
				return true
			}
			text := strings.Join(strings.Fields(strings.Trim(literal.Value, "`")), " ")
			if isSQL.MatchString(text) {
				found++
				if !strings.Contains(prepared, text) {
					t.Errorf("%s: no call used\n%s", name, text)
				}
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("found only %d SQL texts in the source", found)
	}
}

func TestEveryExportedMethodIsExercised(t *testing.T) {
	var methods, exercised []string
	for m := range reflect.TypeFor[*Store]().Methods() {
		methods = append(methods, m.Name)
	}
	for _, c := range calls(t, newWorld(t)) {
		exercised = append(exercised, c.method)
	}
	slices.Sort(exercised)
	if !slices.Equal(methods, exercised) {
		t.Errorf("Store has the methods\n%v, exercised are\n%v", methods, exercised)
	}
}

func TestEachListOfRunsUsesItsIndex(t *testing.T) {
	w := newWorld(t)
	ws, conn := w.unlimitedWorkspace(), w.conn()
	for _, form := range runForms() {
		before := queriesOf(w)
		_, _, err := w.Runs(t.Context(), ws, form.filter)
		w.must(err)
		var plan []string
		for _, query := range queriesOf(w) {
			if !slices.Contains(before, query) && strings.HasPrefix(query, "SELECT") {
				plan = planOf(w, conn, query)
			}
		}
		if !strings.Contains(strings.Join(plan, "\n"), form.index) {
			t.Errorf("%+v does not use %s: %q", form.filter, form.index, plan)
		}
	}
}
