//go:build !linux

package vfs

import (
	"errors"
	"fmt"
)

func (osFS) Usage(dir string) (Usage, error) {
	return Usage{}, fmt.Errorf("usage of %s: %w", dir, errors.ErrUnsupported)
}
