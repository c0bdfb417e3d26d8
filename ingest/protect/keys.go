package protect

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Key is a key of HMACs.
type Key struct {
	ID     string // see KeyID; part of every token
	Secret []byte // SecretMin bytes or more
}

// String shows the id only.
func (k Key) String() string { return "key " + k.ID }

// Format is String whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// KeyID is what the id of a key looks like.
var KeyID = regexp.MustCompile(`^[a-z][a-z0-9_]{0,15}$`)

// SecretMin and SecretMax bound a key's secret, in bytes.
const (
	SecretMin = 32
	SecretMax = 128
)

// ParseSecret reads a secret in base64. The errors never show it.
func ParseSecret(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, errors.New("found a secret that is not base64")
	case len(raw) < SecretMin || len(raw) > SecretMax:
		return nil, fmt.Errorf("found a secret of %d bytes", len(raw))
	}
	return raw, nil
}

// keyFile is where the key is kept that LoadKey makes.
const keyFile = "hmac.key"

// LoadKey reads the key that is kept in a directory. ok is false where there is
// none.
func LoadKey(dir string) (k Key, ok bool, err error) {
	name := filepath.Join(dir, keyFile)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Key{}, false, nil
	}
	if err != nil {
		return Key{}, false, fmt.Errorf("key of sensitive fields: %w", err)
	}
	words := strings.Fields(string(data))
	if len(words) != 2 || !KeyID.MatchString(words[0]) {
		return Key{}, false, fmt.Errorf("key of sensitive fields: %s: expected an id and a secret in base64", name)
	}
	secret, err := ParseSecret(words[1])
	if err != nil {
		return Key{}, false, fmt.Errorf("key of sensitive fields: %s: %w", name, err)
	}
	return Key{ID: words[0], Secret: secret}, true, nil
}

// MakeKey makes a key at random and keeps it in a directory, readable by its owner
// only, durable when MakeKey returns.
func MakeKey(dir string) (Key, error) {
	random := make([]byte, SecretMin+3)
	rand.Read(random)
	k := Key{ID: "k" + hex.EncodeToString(random[SecretMin:]), Secret: random[:SecretMin]}
	text := k.ID + " " + base64.StdEncoding.EncodeToString(k.Secret) + "\n"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Key{}, fmt.Errorf("key of sensitive fields: %w", err)
	}
	if err := writeFile(filepath.Join(dir, keyFile), []byte(text)); err != nil {
		return Key{}, fmt.Errorf("key of sensitive fields: %w", err)
	}
	return k, nil
}

// writeFile writes a whole file that only its owner can read, in one step and
// durably.
func writeFile(name string, data []byte) error {
	f, err := createFile(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// createFile makes a file anew, for its owner only whatever was there before.
func createFile(name string) (*os.File, error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// syncDir makes the names in a directory durable, and those of the directory in
// its own.
func syncDir(dir string) error {
	for _, name := range []string{dir, filepath.Dir(dir)} {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}
