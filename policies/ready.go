package policies

import "github.com/pikarc/server/plans"

// Ready returns the ready-made policies, to be switched on as they are or
// changed first.
func Ready() []Policy {
	return []Policy{
		{
			Name: "runaway-loop", Enabled: true, Priority: DefaultPriority, Effect: Log,
			Description: "Says when an agent takes the same step five times in a row, or goes back and forth " +
				"between two. Make its effect deny once you trust it.",
			Match:   Match{Types: []string{"TOOL_CALL", "MODEL_CALL"}},
			Limit:   &Limit{Measure: MeasureRepeats, Per: "run", Window: WindowRun, Amount: 5},
			Message: "You have done exactly this several times. Try something else, or stop and say why.",
		},
		{
			Name: "large-refund", Enabled: true, Priority: DefaultPriority, Effect: Review,
			Description: "A refund above $100 needs a person, and so does one that does not say its amount.",
			Match:       Match{Types: []string{"TOOL_CALL"}, Tools: []string{"refund*"}},
			When:        `!has(input.amount) || usd(input.amount) > usd(100)`,
			Message:     "A refund of this size needs a person's approval.",
			Review:      DefaultReview(),
		},
		{
			Name: "no-writes-at-night", Enabled: true, Priority: DefaultPriority, Effect: Deny,
			Description: "Tools that write, delete or send are off from 22:00 to 06:00. Put your own time " +
				"zone in place of UTC.",
			Match: Match{
				Types: []string{"TOOL_CALL"},
				Tools: []string{"write*", "update*", "delete*", "create*", "send*"},
			},
			When:    `now.getHours("UTC") >= 22 || now.getHours("UTC") < 6`,
			Message: "Nothing is changed between 22:00 and 06:00. Read only, or try again in the morning.",
		},
		{
			Name: "run-budget", Enabled: true, Priority: DefaultPriority, Effect: Deny,
			Description: "A run may cost $2.",
			Limit: &Limit{
				Measure: MeasureUSD, Per: "run", Window: WindowRun, Amount: int64(2 * plans.USD),
			},
			Message: "This run has used its $2. Finish with what you have.",
		},
	}
}
