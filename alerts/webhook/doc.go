// Package webhook is a receiver that posts each alert to an HTTP endpoint, by the
// Standard Webhooks specification 1.0.0.
//
// A notification is a POST of {"type":"alert","data":ALERT}, where ALERT is the
// alert's record, with the headers webhook-id (the idempotency key),
// webhook-timestamp (of the attempt) and, with secrets, webhook-signature.
//
// Invariants:
//
//  1. One id always comes with one body, byte for byte, over retries and
//     restarts: the body is made of the alert's record only.
//  2. webhook-id is the alert's id with every byte that is not a letter, a digit
//     or one of "/_-:" written as %XX: the specification wants no full stop in
//     it, and a header takes no control character. Different ids stay different.
//  3. A 2xx answer is a yes as soon as its header is there. 408, 425, 429, 5xx, no
//     answer and a refused address may be tried again; every other answer is a no
//     for good, redirects included: they are not followed.
//  4. Only addresses that Guard allows are connected to, whatever names resolve
//     to. No proxy is used.
//  5. At most bodyMax bytes of an answer are read, at most drainMax long after
//     its header; an attempt ends with its timeout.
//  6. No error holds the URL or a secret.
//
// It starts no goroutine of its own (net/http has two for each connection); each
// Receiver has one transport with at most MaxInFlight connections.
package webhook
