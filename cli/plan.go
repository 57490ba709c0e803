package cli

import (
	"fmt"
	"os"

	"github.com/pikarc/server/plans"
)

// defaultPlan returns the plan of a new workspace: the configured one, else
// enterprise, or the free plan if plans are sold.
func defaultPlan(flag, chosen string, sells bool) (plans.Plan, error) {
	// Where nothing is sold, nobody should meet the limits of a plan.
	if chosen == "" {
		chosen = string(plans.Enterprise)
		if sells {
			chosen = string(plans.Basic)
		}
	}
	plan, err := plans.ByID(plans.ID(chosen))
	if err != nil {
		return plans.Plan{}, usage(fmt.Errorf("%s: %w", flag, err))
	}
	return plan, nil
}

// defaultPlanHere is defaultPlan for a server with this environment, for commands
// that make workspaces.
func defaultPlanHere() (plans.Plan, error) {
	key, err := setting(stripeSecretKey)
	if err != nil {
		return plans.Plan{}, err
	}
	const variable = "PIKARC_DEFAULT_PLAN"
	return defaultPlan(variable, os.Getenv(variable), key != "")
}
