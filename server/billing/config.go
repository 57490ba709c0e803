package billing

import (
	"log/slog"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
)

// Config is what it takes to sell plans. The public URL is where people
// reach this server, and come back to from Stripe's pages.
type Config struct {
	SecretKey      Hidden
	WebhookSecrets []Hidden // several while one is replaced by another
	// Prices are the ids that stand for each plan. The first is sold; the
	// others are old ones, still paid by those who bought them.
	Prices    map[plans.ID][]string
	PublicURL string
	APIURL    string        // of a stand-in for Stripe; Stripe's own when empty
	Grace     time.Duration // how long a failed payment keeps the plan; DefaultGrace when 0
	Timeout   time.Duration // of all that one request or check asks of Stripe; 20 s when 0
}

// DefaultGrace is how long a workspace keeps its plan after a payment failed.
const DefaultGrace = 7 * 24 * time.Hour

// withDefaults returns a copy in which every duration is set.
func (cfg *Config) withDefaults() *Config {
	out := *cfg
	out.Grace, out.Timeout = positive(cfg.Grace, DefaultGrace), positive(cfg.Timeout,
		20*time.Second)
	return &out
}

// TakesRealMoney tells the key of real money from one of the test mode.
func (cfg *Config) TakesRealMoney() bool {
	return !strings.Contains(string(cfg.SecretKey), "_test_")
}

// planOfPrice is empty for a price that no plan has.
func (cfg *Config) planOfPrice(price string) plans.ID {
	for plan, prices := range cfg.Prices {
		for _, p := range prices {
			if p == price {
				return plan
			}
		}
	}
	return ""
}

// positive returns d, or otherwise if d is not set.
func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Hidden is a text that no log and no error shows.
type Hidden string

// String redacts.
func (Hidden) String() string { return "***" }

// GoString redacts under %#v.
func (Hidden) GoString() string { return "***" }

// LogValue redacts.
func (Hidden) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText redacts, in JSON too.
func (Hidden) MarshalText() ([]byte, error) { return []byte("***"), nil }
