package workers

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// TestEverythingFits: whatever a workload is and says, its result, dead letter and
// status can be sent; otherwise it would be tried for ever.
func TestEverythingFits(t *testing.T) {
	status := &drivers.WorkloadStatus{ID: "shop/cart", Message: strings.Repeat("m", 1<<20)}
	for i := range 1000 {
		status.Instances = append(status.Instances, drivers.InstanceStatus{
			Instance: i, ID: fmt.Sprintf("%064d", i), HealthOutput: strings.Repeat("\x01", 4096), Message: strings.Repeat("x", 2000),
		})
	}
	rollout := &drivers.RolloutError{Message: strings.Repeat("ä", 1<<20), HealthOutput: strings.Repeat("h", 1<<20)}
	for range 20 {
		rollout.LastLogs = append(rollout.LastLogs, strings.Repeat("l", 1<<20))
	}
	e := commandEvent(t)
	cmd := &command{id: subjects.CommandIDOf(e), seq: 7, verb: subjects.Deploy, w: cart, event: e}
	end := ending{outcome: subjects.Failed, err: rollout, status: status}
	for range 5 {
		end.attempts = append(end.attempts, subjects.AttemptData{Error: strings.Repeat("e", maxTextBytes/4)})
	}
	result := end.result(cmd, "n", status.ObservedAt)
	if n := len(encode(result)); n > subjects.MaxMessageBytes*3/4 {
		t.Errorf("a result of %d bytes", n)
	}
	letter := end.deadLetter(cmd)
	if n := len(encode(letter)); n > subjects.MaxMessageBytes*7/8 {
		t.Errorf("a dead letter of %d bytes", n)
	}
	var kept drivers.WorkloadStatus
	if err := json.Unmarshal(result.Status, &kept); err != nil {
		t.Fatal(err)
	}
	if len(kept.Instances) == 0 || !strings.Contains(kept.Message, "of 1000 instances shown") {
		t.Errorf("%d instances kept, message ends %q", len(kept.Instances), kept.Message[max(0, len(kept.Message)-60):])
	}
	if small := (&drivers.WorkloadStatus{ID: "shop/cart"}); string(fitStatus(small)) != string(encode(small)) {
		t.Error("a small status was changed")
	}
}

func commandEvent(t *testing.T) event.Event {
	t.Helper()
	e, err := subjects.NewEvent("/test", subjects.TypeDeploy, cart.ID(), map[string]string{"name": "cart"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
