package server

import "github.com/pikarc/server/storage"

// permissions is a set of things that a caller may do. A route names those that
// it needs, a credential gives those that it holds, and the call goes on when
// the second set has all of the first.
//
// What agents are guarded by, they may not change: canConfigure is given to
// people who have signed in, and to keys that were made for it.
type permissions uint16

// The permissions. A call that needs none is public.
const (
	canDecide permissions = 1 << iota // ask for a decision: starts, steps, heartbeats
	canReport                         // say what an allowed step has used
	canEndRun                         // end a run
	canRead                           // read whatever the workspace has
	// Change what decisions depend on, and who may ask for them
	canConfigure
	canBill    // see and change what is paid for
	canManage  // act for the account itself: its password, its sessions
	canRewrite // change what is booked already
	canInspect // read what agents may not: where the workspace is told of what they do
	canReview  // say, as a person, whether a step may be taken
	// public is what needs no credential.
	public permissions = 0
)

// What each kind of credential holds.
const (
	// ofAgentKey is what an agent needs: it decides nothing about its own limits.
	ofAgentKey permissions = canDecide | canReport | canEndRun | canRead
	// ofReadKey is for dashboards and exports of one's own.
	ofReadKey permissions = canRead
	// ofAdminKey is for scripts that configure a workspace. Plans and accounts need a person.
	ofAdminKey permissions = ofAgentKey | canConfigure | canInspect
	// ofSession is a person in the dashboard, who makes no runs.
	ofSession permissions = canEndRun | canRead | canConfigure | canInspect | canBill | canManage | canRewrite | canReview
	// afterItsEnd is what is left of a key for a while: to finish what it began.
	afterItsEnd permissions = canReport | canEndRun
)

// ofKey is what a key of a scope holds.
func ofKey(scope storage.Scope) permissions {
	switch scope {
	case storage.ScopeAgent:
		return ofAgentKey
	case storage.ScopeRead:
		return ofReadKey
	case storage.ScopeAdmin:
		return ofAdminKey
	default:
		return 0
	}
}

// has reports whether all of the others are in the set.
func (p permissions) has(others permissions) bool { return p&others == others }

// checkedByWriter reports whether a handler that needs these names its caller
// to the store's writer, which checks the key inside the transaction: the key
// then need not be looked up before.
func (p permissions) checkedByWriter() bool { return p&(canDecide|canReport|canEndRun) != 0 }

// refuseKeys says that a call takes no API key, whatever its scope, if so.
func refuseKeys(needs permissions) error {
	if ofAdminKey.has(needs) {
		return nil
	}
	return unauthenticated("This call needs a signed-in account, not an API key")
}

// refuseScope says that a call takes no API key of a scope, if so.
func refuseScope(needs permissions, scope storage.Scope) error {
	switch {
	case ofKey(scope).has(needs):
		return nil
	case needs.has(canConfigure):
		return unauthenticated("This call changes the configuration: it needs a signed-in account or an API key of scope admin. " +
			"The scope of this key is " + string(scope) + ".")
	case needs.has(canInspect):
		return unauthenticated("This call shows what agents may not see: it needs a signed-in account or an API key of scope admin. " +
			"The scope of this key is " + string(scope) + ".")
	default:
		return unauthenticated("This call needs an API key of scope agent or admin. The scope of " +
			"this key is " + string(scope) + ".")
	}
}

// refuseSession says that a call takes no session's token, if so.
func refuseSession(needs permissions) error {
	if ofSession.has(needs) {
		return nil
	}
	return unauthenticated("This call needs an API key")
}
