package clients

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/test/published"
	"github.com/weirstream/weir/test/seeds"
)

const kgoPackage = "github.com/twmb/franz-go/pkg/kgo"

var kgoOutcome = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+)`)

// mayNotRun are the tests of franz-go's suite that want what Weir does not serve:
// share groups, SCRAM, and a broker that is older than they are.
var mayNotRun = regexp.MustCompile(`^Test(Share|ConsumeRegexShare|SCRAM|IssueProduceBrokerTooOld)`)

// TestKgo runs franz-go's own tests against Weir. They ask the broker what it
// serves and leave out what it does not: what is left out has to be expected.
func TestKgo(t *testing.T) {
	t.Parallel()
	franz := clients[1]
	dir := filepath.Dir(franz.build(t)[0])
	module := filepath.Join(published.Root(t), "test", "clients", "go")
	where, err := exec.Command("go", "-C", module, "list", "-f", "{{.Dir}}", kgoPackage).Output()
	if err != nil {
		t.Fatal(err)
	}
	count, limit := "2000", 10*time.Minute
	if seeds.Long(t) {
		count, limit = "500000", time.Hour // the first is the suite's own default
	}
	b := startBroker(t)
	var out bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, "kgo.test"), "-test.count=1", "-test.v", "-test.timeout="+limit.String())
	cmd.Dir = strings.TrimSpace(string(where)) // the suite reads its own source
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+b.addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS="+count)
	cmd.Stdout, cmd.Stderr = &out, &out
	failed := cmd.Run()
	outcomes := map[string]int{}
	for _, m := range kgoOutcome.FindAllStringSubmatch(out.String(), -1) {
		outcomes[m[1]]++
		if m[1] == "FAIL" || m[1] == "SKIP" && !mayNotRun.MatchString(m[2]) {
			t.Errorf("%s: %s", m[1], m[2])
		}
	}
	t.Logf("with %s records: %v", count, outcomes)
	if failed != nil {
		log := filepath.Join(published.Root(t), ".cache", "clients", "kgo.log")
		if err := os.WriteFile(log, out.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
		said := out.Bytes()
		t.Errorf("franz-go's tests: %v; all of their output is in %s, the end is\n%s", failed, log, said[max(0, len(said)-16000):])
	}
}
