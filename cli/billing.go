package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// Stripe's settings come from the environment only: two are secrets, which
// flags would show in the list of processes, and half a set is of no use.
const (
	stripeSecretKey     = "PIKARC_STRIPE_SECRET_KEY"
	stripeWebhookSecret = "PIKARC_STRIPE_WEBHOOK_SECRET"
	stripePricePro      = "PIKARC_STRIPE_PRICE_PRO"
	stripePriceScale    = "PIKARC_STRIPE_PRICE_SCALE"
	stripeAPIURL        = "PIKARC_STRIPE_API_URL"
)

// stripeHelp is the part of `pikarc serve --help` about selling plans. Secrets have no flags, which
// other users of the machine could read.
const stripeHelp = "To sell plans with Stripe, set PIKARC_PUBLIC_URL and all of " +
	"PIKARC_STRIPE_SECRET_KEY, PIKARC_STRIPE_WEBHOOK_SECRET,\n" +
	"PIKARC_STRIPE_PRICE_PRO and PIKARC_STRIPE_PRICE_SCALE (each also _FILE, the name of a file " +
	"that holds it). The last two\n" +
	"are ids of prices; several are divided by commas, and the first is the one that is sold. " +
	"Two webhook\n" +
	"secrets, divided by a comma, are both taken while one is rolled. PIKARC_STRIPE_API_URL puts " +
	"a stand-in for tests in Stripe's\n" +
	"place."

// stripeConfig reads Stripe's settings: nil when none is set, an error that
// names what is missing when only some are.
func stripeConfig(publicURL string, grace time.Duration) (*server.StripeConfig, error) {
	values := make(map[string]string)
	var missing []string
	for _, name := range []string{stripeSecretKey, stripeWebhookSecret, stripePricePro,
		stripePriceScale} {
		value, err := setting(name)
		if err != nil {
			return nil, err
		}
		if values[name] = strings.TrimSpace(value); values[name] == "" {
			missing = append(missing, name)
		}
	}
	// None of them: this server sells nothing, which is the usual case. Some of them is a mistake.
	if len(missing) == len(values) {
		return nil, nil
	}
	if publicURL == "" {
		missing = append(missing, "PIKARC_PUBLIC_URL")
	}
	if len(missing) > 0 {
		return nil, usage(fmt.Errorf("to sell plans with Stripe, also set %s",
			strings.Join(missing, ", ")))
	}
	cfg := &server.StripeConfig{
		SecretKey:      server.Hidden(values[stripeSecretKey]),
		WebhookSecrets: hidden(words(values[stripeWebhookSecret])),
		Prices: map[plans.ID][]string{plans.Pro: words(values[stripePricePro]),
			plans.Scale: words(values[stripePriceScale])},
		PublicURL: strings.TrimSuffix(publicURL, "/"),
		APIURL:    strings.TrimSuffix(os.Getenv(stripeAPIURL), "/"), Grace: grace,
	}
	return cfg, usage(checkStripe(cfg))
}

// words divides at commas.
func words(list string) (all []string) {
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

// hidden wraps secrets so that no log or error prints them.
func hidden(all []string) (secrets []server.Hidden) {
	for _, text := range all {
		secrets = append(secrets, server.Hidden(text))
	}
	return secrets
}

// checkStripe finds what people mix up, without repeating a secret.
func checkStripe(cfg *server.StripeConfig) error {
	seen := make(map[string]bool)
	for name, prices := range map[string][]string{stripePricePro: cfg.Prices[plans.Pro],
		stripePriceScale: cfg.Prices[plans.Scale]} {
		if len(prices) == 0 {
			return fmt.Errorf("%s names no price", name)
		}
		for _, price := range prices {
			// Stripe's dashboard shows the product's id where people look for the price's.
			if strings.HasPrefix(price, "prod_") {
				return fmt.Errorf("%s: %s is a product: give the id of its price (price_...)", name,
					price)
			}
			if seen[price] {
				return fmt.Errorf("the price %s is named twice: pro and scale need prices of "+
					"their own", price)
			}
			seen[price] = true
		}
	}
	if key := string(cfg.SecretKey); !strings.HasPrefix(key, "sk_") &&
		!strings.HasPrefix(key, "rk_") {
		return fmt.Errorf("%s is no secret key: it begins with sk_ or rk_", stripeSecretKey)
	}
	for _, secret := range cfg.WebhookSecrets {
		if !strings.HasPrefix(string(secret), "whsec_") {
			return fmt.Errorf("%s is no webhook secret: it begins with whsec_", stripeWebhookSecret)
		}
	}
	if len(cfg.WebhookSecrets) == 0 {
		return fmt.Errorf("%s names no secret", stripeWebhookSecret)
	}
	if err := checkStripeAPI(cfg.APIURL); err != nil {
		return fmt.Errorf("%s: %w", stripeAPIURL, err)
	}
	return nil
}

// checkPublicURL wants an address that people's browsers can come back to.
func checkPublicURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("--public-url %q: give an address such as https://agents.example.com",
			text)
	}
	return nil
}

// checkStripeAPI keeps the secret key from travelling in the clear, except to this machine.
func checkStripeAPI(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	here := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !here) {
		return errors.New("must be https, or http on this machine")
	}
	return nil
}
