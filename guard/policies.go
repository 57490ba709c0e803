package guard

import "time"

// Effect is what a policy does when it objects, from the mildest.
type Effect uint8

// The effects. The values are those of package policies.
const (
	// LogOnly records that the policy applies, and lets the call pass.
	LogOnly Effect = 1
	// AskPerson makes the step wait for a person's verdict.
	AskPerson Effect = 2
	// DenyAction denies.
	DenyAction Effect = 3
)

// Policy is a rule of a workspace's own that concerns a call, as it stands
// inside the transaction that will record the decision.
type Policy struct {
	// Which policy it is, for the record of the decision.
	ID, Version   int64
	Name, Message string
	// What follows if it objects.
	Effect Effect
	Holds  bool // its condition is true, or could not be evaluated

	// A policy with a limit objects once the limit is reached.
	HasLimit    bool
	Limit, Used int64 // nano-USD with Money, otherwise a count
	Money       bool
	Counts      int64     // what this call itself adds: 1 for calls and runs, 0 for what is reported later
	ResetsAt    time.Time // zero when the window does not end by itself

	Granted bool // a person has allowed it in advance
}

// Objects reports whether the policy's effect takes place.
func (p *Policy) Objects() bool {
	switch {
	case !p.Holds:
		return false
	case !p.HasLimit:
		return true
	case p.Counts > 0:
		return p.Used > p.Limit-p.Counts
	default:
		return p.Used >= p.Limit
	}
}

// DecidePolicies asks the policies that concern a call, in their order, once no
// rule has objected: the first that denies answers, else the first that wants a
// person asked. One that only logs changes no answer, and a grant answers for a
// person. It fills in what of the decision is the policies'.
func DecidePolicies(d Decision, policies []Policy) Decision {
	for i := range policies {
		d.Policies = append(d.Policies, policies[i].Name)
	}
	for i := range policies {
		p := &policies[i]
		if p.Effect != DenyAction || !p.Objects() {
			continue
		}
		d.Reason, d.Policy = PolicyDenied, p
		if p.HasLimit {
			d.Reason, d.Limit, d.Used, d.ResetsAt = PolicyLimitExceeded, p.Limit, p.Used, p.ResetsAt
		}
		return d
	}
	for i := range policies {
		if p := &policies[i]; p.Effect == AskPerson && !p.Granted && p.Objects() {
			d.Review, d.Policy = true, p
			return d
		}
	}
	return d
}
