package server

// permissions is a set of things that a caller may do. A route names those that
// it needs, a credential gives those that it holds, and the call goes on when
// the second set has all of the first. What makes the second set is one
// function a kind of credential: an API key's scope, and a session.
type permissions uint16

// The permissions. A call that needs none is public.
const (
	canDecide    permissions = 1 << iota // ask for a decision: starts, steps, heartbeats
	canReport                            // say what an allowed step has used
	canEndRun                            // end a run
	canRead                              // read whatever the workspace has
	canConfigure                         // change what decisions depend on, and who may ask for them
	canBill                              // see and change what is paid for
	canManage                            // act for the account itself: its password, its sessions
	public       permissions = 0
)

// What each kind of credential holds.
const (
	ofKey     = canDecide | canReport | canEndRun | canRead | canConfigure
	ofSession = canEndRun | canRead | canConfigure | canBill | canManage
)

// has reports whether all of the others are in the set.
func (p permissions) has(others permissions) bool { return p&others == others }

// checkedByWriter reports whether a handler that needs these names its caller
// to the store's writer, which checks the key inside the transaction: the key
// then need not be looked up before.
func (p permissions) checkedByWriter() bool { return p&(canDecide|canReport|canEndRun) != 0 }

// refuseKey says why a call does not take an API key, if it does not.
func refuseKey(needs permissions) error {
	if ofKey.has(needs) {
		return nil
	}
	return unauthenticated("This call needs a signed-in account, not an API key")
}

// refuseSession says why a call does not take a session's token, if it does not.
func refuseSession(needs permissions) error {
	if ofSession.has(needs) {
		return nil
	}
	return unauthenticated("This call needs an API key")
}
