package demo

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed config
var files embed.FS

// WriteConfig puts the demo's weir.yaml and rules into dir, leaving alone the
// files that are already there, and returns the path of weir.yaml.
func WriteConfig(dir string) (string, error) {
	root, err := fs.Sub(files, "config")
	if err != nil {
		return "", err
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(to, 0o750)
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return writeNew(to, text)
	})
	if err != nil {
		return "", fmt.Errorf("writing the demo's configuration: %w", err)
	}
	return filepath.Join(dir, "weir.yaml"), nil
}

func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
