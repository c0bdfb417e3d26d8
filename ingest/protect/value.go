package protect

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/schema"
)

// The beginnings of what replaces values.
const (
	hmacPrefix   = "h1."
	cipherPrefix = "e1."
)

const (
	macSize   = 16 // of SHA-256's 32 bytes: NIST SP 800-107 allows it, and 2^64 values until two are likely equal
	nonceSize = 12
	tagSize   = 16
)

var encoding = base64.RawURLEncoding

// replace appends what the policy of a field leaves of the text t; nothing where
// the value is dropped. t is not changed.
func (w *worker) replace(dst []byte, f *field, t []byte) ([]byte, error) {
	switch f.policy {
	case schema.Mask:
		w.tally.mask++
		return appendMasked(dst, t), nil
	case schema.HMAC:
		w.tally.hmac++
		return w.appendMAC(dst, t), nil
	case schema.Encrypt:
		w.tally.encrypt++
		return w.appendCipher(dst, f, t)
	}
	w.tally.drop++
	return dst, nil
}

// appendMasked appends t masked: of 13 to 19 digits the first six and the last
// four stay, of anything else of eight characters or more the last four.
func appendMasked(dst, t []byte) []byte {
	at := len(dst)
	if isCard(t) {
		dst = append(dst, t...)
		hideMiddle(dst[at:])
		return dst
	}
	if isMaskedCard(t) {
		return append(dst, t...)
	}
	n := utf8.RuneCount(t)
	shown := 4
	if n < 8 {
		shown = 0
	}
	for ; n > shown; n-- {
		dst = append(dst, '*')
		_, size := utf8.DecodeRune(t)
		t = t[size:]
	}
	return append(dst, t...)
}

// isMaskedCard reports whether t is what appendMasked makes of a card number.
func isMaskedCard(t []byte) bool {
	n, stars := 0, 0
	for _, c := range t {
		switch {
		case isDigit(c):
			if stars > 0 && n < 9 { // 13 digits have three in the middle
				return false
			}
			n++
		case c == '*':
			if n < 6 {
				return false
			}
			stars++
			n++
		case c != ' ' && c != '-':
			return false
		}
	}
	if n < panMin || n > panMax || stars != n-10 {
		return false
	}
	// Six digits before the stars and four after them.
	first, last := bytes.IndexByte(t, '*'), bytes.LastIndexByte(t, '*')
	return digitsIn(t[:first]) == 6 && digitsIn(t[last:]) == 4
}

func digitsIn(t []byte) (n int) {
	for _, c := range t {
		if isDigit(c) {
			n++
		}
	}
	return n
}

// normal is t as it is hashed: a card number without what stands between its
// groups. It is valid until the next call.
func (w *worker) normal(t []byte) []byte {
	if bytes.IndexByte(t, ' ') < 0 && bytes.IndexByte(t, '-') < 0 || !isCard(t) {
		return t
	}
	w.grouped = w.grouped[:0]
	for _, c := range t {
		if isDigit(c) {
			w.grouped = append(w.grouped, c)
		}
	}
	return w.grouped
}

// appendMAC appends the token of t under the first key, or t where it is a token.
func (w *worker) appendMAC(dst, t []byte) []byte {
	if w.isMAC(t) {
		return append(dst, t...)
	}
	// The record's key comes after the value of the field that it repeats.
	if len(w.lastToken) > 0 && bytes.Equal(w.lastText, t) {
		return append(dst, w.lastToken...)
	}
	at := len(dst)
	dst = w.appendToken(dst, 0, t)
	w.lastText, w.lastToken = append(w.lastText[:0], t...), append(w.lastToken[:0], dst[at:]...)
	return dst
}

// appendToken appends the token of t under a key.
func (w *worker) appendToken(dst []byte, key int, t []byte) []byte {
	dst = append(dst, hmacPrefix...)
	dst = append(dst, w.p.keys[key].ID...)
	dst = append(dst, '.')
	mac := w.macs[key]
	mac.Reset()
	mac.Write(w.normal(t))
	w.sum = mac.Sum(w.sum[:0])
	return encoding.AppendEncode(dst, w.sum[:macSize])
}

// isMAC reports whether t is a token under a known key.
func (w *worker) isMAC(t []byte) bool {
	rest, ok := bytes.CutPrefix(t, []byte(hmacPrefix))
	if !ok {
		return false
	}
	id, token, ok := bytes.Cut(rest, []byte{'.'})
	if !ok || len(token) != encoding.EncodedLen(macSize) || !w.p.known(id) {
		return false
	}
	var raw [macSize]byte
	if _, err := encoding.Decode(raw[:], token); err != nil {
		return false
	}
	return !w.holdsCard(t)
}

// holdsCard reports whether t, taken for a token, has a card number in it.
func (w *worker) holdsCard(t []byte) bool {
	w.probe = append(w.probe[:0], t...)
	return w.search.cards(w.probe) > 0
}

// appendCipher appends t encrypted under the key of the record's subject. Without
// a subject the event is bad, and its value not kept.
func (w *worker) appendCipher(dst []byte, f *field, t []byte) ([]byte, error) {
	if isCipher(t) && !w.holdsCard(t) {
		return append(dst, t...), nil
	}
	if len(w.subject) == 0 {
		return append(dst, "****"...), nil
	}
	key, err := w.p.subjects.key(w.subject)
	if err != nil {
		return dst, err
	}
	w.sealed = true
	aead, err := newAEAD(key[:])
	if err != nil {
		return dst, err
	}
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	w.cipher = aead.Seal(append(w.cipher[:0], nonce[:]...), nonce[:], t, f.bound)
	return encoding.AppendEncode(append(dst, cipherPrefix...), w.cipher), nil
}

func isCipher(t []byte) bool {
	token, ok := bytes.CutPrefix(t, []byte(cipherPrefix))
	if !ok || encoding.DecodedLen(len(token)) < nonceSize+tagSize {
		return false
	}
	_, err := encoding.AppendDecode(nil, token)
	return err == nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("subject key: %w", err)
	}
	return cipher.NewGCM(block)
}

func newMAC(k Key) hash.Hash { return hmac.New(sha256.New, k.Secret) }
