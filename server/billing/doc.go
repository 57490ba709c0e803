// Package billing sells plans with Stripe, from the first click to the last cent.
//
// Without Stripe settings there is none: plans are shown, and changed by the
// operator with `pikarc set-plan`. With them:
//
//  1. A person picks a plan, and POST checkout answers with the address of a
//     page of Stripe's (checkout.go). The workspace becomes a customer of
//     Stripe first, once and for all, so that every later event can be told
//     whose it is. Who has a subscription is sent to the customer portal
//     instead: it is changed there, never bought twice.
//  2. The person pays, and Stripe sends events to POST webhook (events.go). An
//     event is only a reason to look: whichever it is, we list the customer's
//     subscriptions (stripe.go), which are the truth of this moment, work out
//     what they amount to (state.go), and record that together with the
//     event's id and the change of plan in one transaction (storage/subscriptions.go).
//     So events may come late, twice or in any order.
//  3. Between listing and recording another event may have got ahead of us.
//     The subscription's row has a version; if it moved, we list again.
//  4. The plan goes when Stripe says so: at the end of the period when
//     canceled, and a grace period after the first payment that failed. A job
//     looks for plans whose end has come, asks Stripe once more, and settles
//     (reconcile.go). Nobody is downgraded while Stripe is away.
//  5. Once a day, and at each start, the same is done with all customers, for
//     what webhooks missed.
//
// Stripe decides what is paid, this server what that gives. Stripe moves a
// plan only when what it says changes, so the operator's set-plan stands; see
// planAfter in storage/subscriptions.go. No call to Stripe is made inside a transaction.
package billing
