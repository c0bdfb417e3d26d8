package config

import (
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
)

const hmacSecretExpected = "32 to 128 random bytes in base64"
const hmacSecretHint = "make one with: head -c 32 /dev/urandom | base64"

// checkSensitive reports what is wrong with the fields' sensitivity, where it is
// declared.
func (s *streamDraft) checkSensitive(w *walker, out *schema.Stream) {
	for _, fault := range protect.Check(out) {
		f := s.fields[fault.Field]
		for _, i := range fault.Path { // as long as it was written out
			if f.of != nil {
				f = f.of
			} else if i < len(f.members) {
				f = f.members[i]
			}
		}
		at := f.v.named()
		if f.sensitive.set {
			at = f.sensitive.v
		} else if f.subject.node != nil {
			at = f.subject
		}
		w.fail(at, fault.Hint, "%s", fault.Message)
	}
}

func (d *draft) buildKeys(w *walker) (out []HMACKey) {
	ids := map[string]text{}
	for _, k := range d.protect {
		if k.id.set {
			if !protect.KeyID.MatchString(k.id.s) {
				w.fail(k.id.v, "", "found %q, expected a lower-case letter, then lower-case letters, digits and _, at most 16", clip(k.id.s))
			}
			once(w, ids, k.id.s, k.id, "the id of another key")
		}
		out = append(out, HMACKey{ID: k.id.s, Secret: k.build(w)})
	}
	return out
}

func (k *keyDraft) build(w *walker) Secret {
	text := k.secret
	switch {
	case k.secret.v.node != nil && k.secretFile.v.node != nil:
		w.fail(k.secretFile.v, "", "found both secret and secret_file, expected one of them")
		return Secret{}
	case k.secret.v.node == nil && k.secretFile.v.node == nil:
		w.fail(k.v, hmacSecretHint, "has no secret: expected the key secret or secret_file")
		return Secret{}
	case k.secretFile.set:
		data, err := w.o.ReadFile(k.secretFile.s)
		if err != nil {
			w.fail(k.secretFile.v, "", "cannot be read: %v", err)
			return Secret{}
		}
		text = k.secretFile
		text.s = string(data)
	case !k.secret.set:
		return Secret{}
	}
	if _, err := protect.ParseSecret(text.s); err != nil {
		w.fail(text.v, hmacSecretHint, "%v, expected %s", err, hmacSecretExpected)
	}
	return Secret{text.s}
}
