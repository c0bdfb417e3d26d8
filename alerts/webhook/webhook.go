package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/alerts"
)

// Bounds on what an endpoint may make of an attempt.
const (
	DefaultTimeout = 10 * time.Second

	bodyMax   = 64 << 10               // bytes of an answer that are read
	shownMax  = 200                    // bytes of an answer in an error
	headerMax = 64 << 10               // bytes of an answer's header
	drainMax  = 500 * time.Millisecond // for the answer after its header
)

// Options of a Receiver.
type Options struct {
	Secrets     []string       // whsec_ and base64; each signs; none: not signed
	Timeout     time.Duration  // of one attempt; 0: DefaultTimeout
	Allow       []netip.Prefix // beside the public internet
	MaxInFlight int            // attempts at once; 0: alerts.DefaultMaxInFlight
}

// Receiver posts alerts to one URL. It is safe for concurrent use.
type Receiver struct {
	url     string
	keys    [][]byte
	timeout time.Duration
	client  *http.Client
}

// New makes a receiver; it connects when the first alert comes. Errors show
// neither the URL nor the secrets.
func New(rawURL string, o Options) (*Receiver, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("webhook: expected an http or https URL with a host and without a user name")
	}
	r := &Receiver{url: rawURL, timeout: o.Timeout}
	if r.timeout <= 0 {
		r.timeout = DefaultTimeout
	}
	for i, s := range o.Secrets {
		encoded, ok := strings.CutPrefix(s, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) == 0 {
			return nil, fmt.Errorf("webhook: secret %d of %d is not whsec_ and base64", i+1, len(o.Secrets))
		}
		r.keys = append(r.keys, key)
	}
	conns := o.MaxInFlight
	if conns <= 0 {
		conns = alerts.DefaultMaxInFlight
	}
	dialer := &net.Dialer{Timeout: r.timeout, KeepAlive: 30 * time.Second, Control: NewGuard(o.Allow).control}
	r.client = &http.Client{
		// A proxy would connect to whatever it is told to.
		Transport: &http.Transport{Proxy: nil, DialContext: dialer.DialContext, MaxIdleConns: conns, MaxIdleConnsPerHost: conns,
			MaxConnsPerHost: conns, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: r.timeout,
			DisableCompression: true, MaxResponseHeaderBytes: headerMax},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// Close frees idle connections.
func (r *Receiver) Close() { r.client.CloseIdleConnections() }

// Body is what is posted for an alert whose record is data.
func Body(data []byte) []byte {
	b := make([]byte, 0, len(data)+len(`{"type":"alert","data":}`))
	b = append(b, `{"type":"alert","data":`...)
	b = append(b, data...)
	return append(b, '}')
}

// Notify posts n.
func (r *Receiver) Notify(ctx context.Context, n *alerts.Notification) (retry bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	body := Body(n.Data)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the URL cannot be requested")
	}
	r.header(req.Header, n.ID, time.Now(), body)
	resp, err := r.client.Do(req)
	if err != nil {
		return true, r.failure(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer is read as far as it matters
	n.Status = resp.StatusCode
	// Reading the rest gives the connection back for the next alert; it is not
	// worth more than a moment.
	stop := time.AfterFunc(drainMax, cancel)
	defer stop.Stop()
	if resp.StatusCode/100 == 2 {
		_, _ = io.CopyN(io.Discard, resp.Body, bodyMax)
		return false, nil
	}
	return refusal(resp, time.Now())
}

func (r *Receiver) header(h http.Header, id string, now time.Time, body []byte) {
	id = escapeID(id)
	seconds := strconv.FormatInt(now.Unix(), 10)
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "weir")
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", seconds)
	if len(r.keys) == 0 {
		return
	}
	signatures := make([]string, len(r.keys))
	for i, key := range r.keys {
		signatures[i] = sign(key, id, seconds, body)
	}
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
}

// sign is "v1," and the base64 HMAC-SHA256 of "id.timestamp.body".
func sign(key []byte, id, seconds string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, id+"."+seconds+".") // a hash takes everything
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// escapeID makes an alert's id one that a header and a signature can hold.
func escapeID(id string) string {
	plain := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/_-:", c) >= 0
	}
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// failure is err without the URL, which url.Error would show.
func (r *Receiver) failure(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", r.timeout)
	}
	return err
}

// refusal is what an answer other than 2xx means.
func refusal(resp *http.Response, now time.Time) (retry bool, err error) {
	switch c := resp.StatusCode; {
	case c == http.StatusRequestTimeout, c == http.StatusTooEarly, c == http.StatusTooManyRequests, c >= 500:
		retry = true
	}
	reason := resp.Status
	switch {
	case resp.StatusCode/100 == 3:
		reason += ": redirects are not followed"
	case resp.StatusCode == http.StatusGone:
		reason += ": the endpoint is gone; remove the receiver"
	}
	start, _ := io.ReadAll(io.LimitReader(resp.Body, shownMax)) // what came is enough
	if text := strings.Join(strings.Fields(strings.ToValidUTF8(string(start), "\ufffd")), " "); text != "" {
		reason += ": " + text
	}
	_, _ = io.CopyN(io.Discard, resp.Body, bodyMax-shownMax)
	return retry, &alerts.Refusal{Reason: reason, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now)}
}

// retryAfter reads seconds or an HTTP date (RFC 9110, section 10.2.3); what is
// neither, or past, is 0.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
