package config

import "github.com/weirstream/weir/ingest/schema"

// namedLayouts are the layouts of timestamps that have a name.
var namedLayouts = []string{"rfc3339", "unix", "unix_ms", "unix_us", "unix_ns"}

// checkLayout says what is wrong with a timestamp's layout, and a hint.
func checkLayout(layout string) (reason, hint string) {
	for _, n := range namedLayouts {
		if layout == n {
			return "", ""
		}
	}
	for i := 0; i < len(layout); i++ {
		if layout[i] == '%' {
			return "", ""
		}
	}
	return "expected rfc3339, unix, unix_ms, unix_us, unix_ns or a strptime layout such as \"%Y-%m-%d %H:%M:%S\"", schema.Suggest(layout, namedLayouts)
}
