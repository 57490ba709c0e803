package cli

import (
	"fmt"
	"os"

	"github.com/pikarc/server/plans"
)

// defaultPlan is the plan of a new workspace: the chosen one, else one with
// everything where nothing is sold, and the free one where plans are.
func defaultPlan(flag, chosen string, sells bool) (plans.Plan, error) {
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

// defaultPlanHere is that of a server with this environment, for the commands
// that make workspaces beside it.
func defaultPlanHere() (plans.Plan, error) {
	key, err := setting(stripeSecretKey)
	if err != nil {
		return plans.Plan{}, err
	}
	const variable = "PIKARC_DEFAULT_PLAN"
	return defaultPlan(variable, os.Getenv(variable), key != "")
}
