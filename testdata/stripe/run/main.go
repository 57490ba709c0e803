// Command run serves the stand-in for Stripe, for people and browsers: what is
// paid on its pages is told to a server's webhook.
//
//	go run ./testdata/stripe/run -addr localhost:8010 \
//		-webhook http://localhost:8000/v1/billing/webhook
//
// It prints the settings with which `pikarc serve` takes it for Stripe.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	standin "github.com/pikarc/server/testdata/stripe"
)

// main serves the stand-in for experiments.
func main() {
	addr := flag.String("addr", "localhost:8010", "address to listen on")
	webhook := flag.String("webhook", "http://localhost:8000/v1/billing/webhook", "where events go")
	flag.Parse()
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	s := standin.NewOn(ln, func(events []standin.Event) {
		for _, e := range events {
			status, err := e.Send(http.DefaultClient, *webhook, standin.WebhookSecret)
			log.Println(e.Type, status, err)
		}
	})
	fmt.Printf("export PIKARC_STRIPE_API_URL=%s PIKARC_STRIPE_SECRET_KEY=%s PIKARC_STRIPE_WEBHOOK_SECRET=%s \\\n"+
		"  PIKARC_STRIPE_PRICE_PRO=price_pro PIKARC_STRIPE_PRICE_SCALE=price_scale PIKARC_PUBLIC_URL=http://localhost:8000\n",
		s.URL, standin.SecretKey, standin.WebhookSecret)
	select {}
}
