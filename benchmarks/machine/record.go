package machine

import (
	"io"
	"os"
	"strings"
)

// Record runs measure, which prints figures, and shows what it prints. Where file is
// not empty the figures become that Markdown file, behind its heading; what an
// earlier run left there stays where measure fails.
func Record(file, heading string, measure func(io.Writer) error) error {
	var text strings.Builder
	if err := measure(io.MultiWriter(os.Stdout, &text)); err != nil || file == "" {
		return err
	}
	return os.WriteFile(file, []byte(heading+"\n\n```\n"+text.String()+"```\n"), 0o644)
}
