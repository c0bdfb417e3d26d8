package infer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// field is a column as a field of the stream.
type field struct {
	*column
	name     string
	typ      event.Type
	layout   string
	optional bool
	why      []string
}

// decide turns columns into fields and chooses time, key and id.
func (g *Guess) decide() *schema.Problem {
	if p := g.twice(); p != nil {
		return p
	}
	g.makeFields()
	if p := g.chooseTime(); p != nil {
		return p
	}
	g.chooseID()
	g.chooseKey()
	return nil
}

// twice refuses a header that names a column twice, as a load does.
func (g *Guess) twice() *schema.Problem {
	for i, c := range g.columns {
		if slices.ContainsFunc(g.columns[:i], func(o *column) bool { return o.from == c.from }) {
			return &schema.Problem{Line: 1, Message: fmt.Sprintf("column %q stands in the header twice", c.from), Hint: "give one of them another name in the file"}
		}
	}
	return nil
}

func (g *Guess) makeFields() {
	taken := map[string]bool{"_topic": true, "_partition": true, "_offset": true}
	for _, c := range g.columns {
		if why := g.unfit(c); why != "" {
			g.left = append(g.left, left{c.from, why})
			continue
		}
		f := field{column: c, name: fieldName(c.from, taken), optional: c.present < g.Rows}
		f.classify()
		if f.optional {
			f.why = append(f.why, fmt.Sprintf("absent in %s of the rows", share(g.Rows-c.present, g.Rows)))
		}
		if c.luhn && c.present > 0 && !c.nested {
			f.why = append(f.why, "card numbers by their check digit: consider sensitive: hmac")
		}
		taken[strings.ToLower(f.name)] = true
		g.fields = append(g.fields, f)
	}
}

// unfit is why a column cannot be a field.
func (g *Guess) unfit(c *column) string {
	switch {
	case c.from == "":
		return "it has no name"
	case slices.Contains(strings.Split(c.from, "."), ""):
		return "its name, taken as a path, has an empty part"
	case strings.ContainsFunc(c.from, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return "its name has characters that do not print"
	case c.nested && (c.inside == nil || c.inside.there() != c.present):
		return "an object or a list in some rows"
	case c.nested:
		if _, ok := c.inside.typ(); !ok {
			return "a list whose elements are of several types, or nested deeper than 4"
		}
		return ""
	case len(g.fields) == columnsMax:
		return "a stream has 512 fields at most"
	case !c.text && !c.number && !c.truth:
		return "values of several types, or not UTF-8"
	case !c.text && c.number && !c.int64 && !c.decimal && !c.double:
		return "numbers beyond what a double holds"
	}
	for i := range g.fields {
		if a, b := g.fields[i].from, c.from; strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".") {
			return fmt.Sprintf("its path and that of %q lead through one another", a)
		}
	}
	return ""
}

// classify finds the narrowest type that all values have.
func (f *field) classify() {
	kind := func(k event.Kind, why string) {
		f.typ = event.Type{Kind: k}
		if why != "" {
			f.why = append(f.why, why)
		}
	}
	if f.nested {
		f.typ, _ = f.inside.typ()
		f.why = append(f.why, f.inside.explain())
		return
	}
	if f.present == 0 {
		kind(event.String, "empty in every row: nothing is known of it")
		return
	}
	if l := f.timeLayout(); l != "" {
		kind(event.Timestamp, "")
		f.layout = l
		return
	}
	switch {
	case f.truth && !f.oneZero:
		kind(event.Bool, "")
	case f.oneZero && truthName.MatchString(f.name):
		kind(event.Bool, "1 and 0, and named like a flag")
	case f.number && f.text && (f.padded || f.signed):
		kind(event.String, "digits with leading zeros or signs, which a number would lose")
	case f.number && f.text && !f.int64 && f.scale == 0 && f.ints > 18:
		kind(event.String, "too many digits for int64")
	case f.int64:
		why := ""
		if f.oneZero {
			why = "1 and 0: bool would do too"
		}
		kind(event.Int64, why)
	case f.decimal:
		f.typ = event.Type{Kind: event.Decimal, Scale: uint8(f.scale)}
		f.why = append(f.why, fmt.Sprintf("exact: %d decimal places at most, %d digits before them", f.scale, f.ints))
	case f.double:
		kind(event.Double, "more digits than an exact decimal holds")
	default:
		kind(event.String, "")
	}
}

var truthName = regexp.MustCompile(`(?i)^(is|has|can|was)_|_(is|has)_|(^|_)(flag|flagged|enabled|active)$`)

// timeName are names that say that a number is a time.
var timeName = regexp.MustCompile(`(?i)(^|_|\b)(ts|time|timestamp|date|datetime|epoch|at|when|created|updated|recv|received|sent|s|ms|us|ns)($|_|\b)|time|date`)

// timeLayout is the layout that reads all values, empty where none does or where
// that would be believing too much.
func (f *field) timeLayout() string {
	for i, l := range f.layouts {
		name := l.String()
		if strings.HasPrefix(name, "unix") && !timeName.MatchString(f.name) {
			continue
		}
		for _, other := range f.layouts[i+1:] {
			if swapped(name) == other.String() {
				f.why = append(f.why, "every value reads as "+other.String()+" too: check which it is")
			}
		}
		return name
	}
	return ""
}

// swapped is a layout with day and month in the other order.
func swapped(layout string) string {
	return strings.NewReplacer("%d", "%m", "%m", "%d").Replace(layout)
}

// Names that speak, the likelier first.
var (
	timeNames = []string{"ts", "timestamp", "event_time", "time", "datetime", "date", "recv", "created", "occurred"}
	keyNames  = []string{"card", "pan", "account", "iban", "customer", "client", "user", "member", "visitor", "session", "symbol", "instrument", "ticker",
		"device", "terminal", "merchant", "host", "ip"}
)

// qualifiers may follow a name that speaks without changing what it says: user_id,
// not user_agent.
var qualifiers = []string{"id", "no", "nr", "num", "number", "name", "key", "hash", "ref", "code", "uuid", "guid", "address", "addr", "utc", "at", "ns", "us", "ms", "s"}

// rank is the place of the first of names that a name ends in, qualifiers aside,
// len(names) where none does.
func rank(names []string, name string) int {
	parts := words(name)
	for len(parts) > 1 && slices.Contains(qualifiers, parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	last := parts[len(parts)-1]
	for i, n := range names {
		if last == n || strings.Join(parts, "_") == n {
			return i
		}
	}
	return len(names)
}

// words takes a name apart, at separators and where camelCase goes up.
func words(name string) []string {
	var out []string
	begin := 0
	take := func(end int) {
		if end > begin {
			out = append(out, strings.ToLower(name[begin:end]))
		}
		begin = end
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_' || c == '.' || c == '-' || c == ' ':
			take(i)
			begin = i + 1
		case c >= 'A' && c <= 'Z' && i > 0 && name[i-1] >= 'a' && name[i-1] <= 'z':
			take(i)
		}
	}
	take(len(name))
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

func (g *Guess) chooseTime() *schema.Problem {
	var best *field
	times, always := 0, 0
	for i := range g.fields {
		f := &g.fields[i]
		if f.typ.Kind != event.Timestamp {
			continue
		}
		times++
		if f.optional {
			continue
		}
		always++
		if best == nil || rank(timeNames, f.name) < rank(timeNames, best.name) {
			best = f
		}
	}
	if best == nil {
		what := "no column is a time in every row"
		if times > 0 {
			what = "no column is a time in every row; those that are times are absent in some"
		}
		return &schema.Problem{Message: what + ": a stream needs one", Hint: "declare the stream by hand, with a layout for its time"}
	}
	why := "the only time that every row has"
	if always > 1 {
		why = fmt.Sprintf("of the %d times that every row has, the one whose name fits best", always)
	}
	g.time = best
	best.why = append([]string{why}, best.why...)
	return nil
}

func identifies(f *field) bool {
	return !f.optional && (f.typ.Kind == event.String || f.typ.Kind == event.Int64)
}

var idName = regexp.MustCompile(`(?i)(^|_|\b)(id|uuid|guid|key|ref|reference|no|number|seq)$|[a-z]Id$`)

// chooseID takes the first column that is different in every row and named so.
func (g *Guess) chooseID() {
	for i := range g.fields {
		f := &g.fields[i]
		if identifies(f) && f.unique && idName.MatchString(f.name) && g.Rows > 1 {
			g.id = f
			return
		}
	}
}

// chooseKey takes the column whose values come again and that is named like what
// events are about; else the string with the most values that come again.
func (g *Guess) chooseKey() {
	var best *field
	for i := range g.fields {
		f := &g.fields[i]
		if !identifies(f) || f.unique || f == g.id || len(f.seen) == 1 {
			continue
		}
		r := rank(keyNames, f.name)
		if r == len(keyNames) && (f.typ.Kind != event.String || f.tooMany) {
			continue
		}
		if best == nil {
			best = f
			continue
		}
		b := rank(keyNames, best.name)
		if r < b || r == b && r == len(keyNames) && len(f.seen) > len(best.seen) {
			best = f
		}
	}
	if best == nil {
		return
	}
	g.key = best
	count := fmt.Sprintf("%s values that come again", number(int64(len(best.seen))))
	if best.tooMany {
		count = fmt.Sprintf("over %s values that come again", number(distinctMax))
	}
	g.keyWhy = count + ", and a name of what events are about"
	if rank(keyNames, best.name) == len(keyNames) {
		g.keyWhy = count + ", the most of any text: check that events are about it"
	}
}

var (
	goodField  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	notInNames = regexp.MustCompile(`[^A-Za-z0-9_]+`)
	reserved   = []string{"true", "false", "null", "in"} // in rules
)

// fieldName is a good name for a column: its own where that is one.
func fieldName(from string, taken map[string]bool) string {
	name := from
	if !goodField.MatchString(name) {
		name = strings.ToLower(strings.Trim(notInNames.ReplaceAllString(name, "_"), "_"))
		if name == "" || name[0] >= '0' && name[0] <= '9' {
			name = "f_" + name
		}
		name = strings.TrimRight(name[:min(len(name), 60)], "_")
	}
	if slices.Contains(reserved, name) {
		name += "_"
	}
	base := name
	for i := 2; taken[strings.ToLower(name)]; i++ {
		name = fmt.Sprintf("%s_%d", base[:min(len(base), 58)], i)
	}
	return name
}

// streamName makes a stream's name from a file's.
func streamName(file string) string {
	base, _, _ := strings.Cut(file, ".")
	name := strings.Trim(notInNames.ReplaceAllString(base, "_"), "_")
	if name == "" || !(name[0] >= 'a' && name[0] <= 'z' || name[0] >= 'A' && name[0] <= 'Z') {
		name = "stream_" + name
	}
	return strings.TrimRight(name[:min(len(name), 60)], "_")
}

func share(n, of int64) string {
	p := 100 * float64(n) / float64(max(of, 1))
	switch {
	case p < 0.1:
		return "under 0.1%"
	case p < 10:
		return fmt.Sprintf("%.1f%%", p)
	}
	return fmt.Sprintf("%.0f%%", p)
}

// number has commas between thousands.
func number(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
