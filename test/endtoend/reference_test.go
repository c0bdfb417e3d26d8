package endtoend

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/test/published"
)

var tableRow = regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \| (\d+)(?: to (\d+))? \|`)

// TestKafkaReference holds docs/reference/kafka.md to what the broker advertises.
func TestKafkaReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(published.Root(t), "docs", "reference", "kafka.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range tableRow.FindAllStringSubmatch(string(text), -1) {
		if row[4] == "" {
			row[4] = row[3] // one version alone
		}
		documented[row[1]+" "+strings.ToLower(row[2])] = row[3] + " to " + row[4]
	}
	a := start(t, writeConfig(t, "http://127.0.0.1:1/"), t.TempDir(), nil)
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "weir-test", "1"
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]string{}
	for _, k := range resp.ApiKeys {
		from := k.MinVersion
		if k.ApiKey == 0 {
			from = 3 // the lower ones are advertised and refused, as the notes say
		}
		served[strconv.Itoa(int(k.ApiKey))+" "+strings.ToLower(kmsg.NameForKey(k.ApiKey))] = fmt.Sprintf("%d to %d", from, k.MaxVersion)
	}
	if !maps.Equal(documented, served) {
		t.Errorf("docs/reference/kafka.md has\n%v\nthe broker serves\n%v", documented, served)
	}
}
