package config

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
)

const mask = "********"

// Secret is a webhook's signing secret, whsec_ and base64, or a key's, base64. However it is printed,
// logged or encoded, it shows as a mask; Reveal gives the secret itself.
type Secret struct{ text string }

// Reveal is the secret itself.
func (s Secret) Reveal() string { return s.text }

// String is a mask.
func (s Secret) String() string { return mask }

// Format writes a mask whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(mask)) }

// MarshalText is a mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue is a mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }

// Prefix is a network that a receiver may be in.
type Prefix = netip.Prefix

// The Standard Webhooks specification asks for 24 to 64 random bytes.
const (
	secretBytesMin = 24
	secretBytesMax = 64
	secretsMax     = 4 // at once, for rotation
)

// parseSecrets reads secrets apart by white space: the first is the newest, the
// others are still accepted somewhere. The reason never holds the secret.
func parseSecrets(text string) (secrets []Secret, reason string) {
	for _, one := range strings.Fields(text) {
		encoded, ok := strings.CutPrefix(one, "whsec_")
		if !ok {
			return nil, "found a secret without the prefix whsec_"
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, "found a secret that is not base64 after whsec_"
		}
		if len(raw) < secretBytesMin || len(raw) > secretBytesMax {
			return nil, fmt.Sprintf("found a secret of %d bytes", len(raw))
		}
		secrets = append(secrets, Secret{one})
	}
	switch {
	case len(secrets) == 0:
		return nil, "is empty"
	case len(secrets) > secretsMax:
		return nil, fmt.Sprintf("found %d secrets", len(secrets))
	}
	return secrets, ""
}

const secretExpected = "whsec_ and 24 to 64 random bytes in base64 (several of them, apart by spaces, while they are rotated)"
const secretHint = `make one with: echo whsec_$(head -c 32 /dev/urandom | base64)`

// maskURL keeps scheme and host: tokens stand in user info, path and query.
func maskURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return mask
	}
	shown := u.Scheme + "://" + u.Host
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		shown += "/" + mask
	}
	return shown
}
