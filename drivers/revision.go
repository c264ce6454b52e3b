package drivers

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/resource"
)

// RevisionLength is the length of a revision in characters of a-z and 2-7.
const RevisionLength = 12

// Revision identifies the template of the workload's instances: two specs have the same
// revision when an instance of one can serve as an instance of the other. imageID is
// what the engine resolved the image to, so that a tag that moved is a new revision.
//
// What does not shape an instance is left out: replicas, the way to roll out, TTL and
// deadline, how the image is fetched, and the backend, which may be named or not.
// Defaults count as written, and quantities by their value ("1" is "1000m"). The spec
// must have passed Validate.
func (s *WorkloadSpec) Revision(imageID string) string {
	t := s.WithDefaults()
	t.Replicas = nil
	t.Update = Update{}
	t.TTL, t.Deadline = 0, 0
	t.PullPolicy, t.Registry, t.Backend = "", nil, ""

	t.Resources.CPU = sameQuantity(t.Resources.CPU)
	t.Resources.Memory = sameQuantity(t.Resources.Memory)
	t.Resources.Shm = sameQuantity(t.Resources.Shm)
	if t.Resources.GPU != nil {
		t.Resources.GPU.Memory = sameQuantity(t.Resources.GPU.Memory)
	}
	t.Logs.MaxSize = sameQuantity(t.Logs.MaxSize)
	for i := range t.Volumes {
		t.Volumes[i].Size = sameQuantity(t.Volumes[i].Size)
	}

	h := sha256.New()
	enc := json.NewEncoder(h)
	// A spec is strings, numbers, maps with string keys and types that marshal without
	// fail, and a hash takes all writes: there is no error to have.
	_ = enc.Encode(t)
	_ = enc.Encode(imageID)
	lower := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	return lower.EncodeToString(h.Sum(nil))[:RevisionLength]
}

// sameQuantity writes equal quantities equally: "1Gi" and "1024Mi" keep the notation
// they were written in when they are marshalled.
func sameQuantity(q *resource.Quantity) *resource.Quantity {
	if q == nil {
		return nil
	}
	if whole := resource.NewQuantity(q.Value(), resource.DecimalSI); q.Cmp(*whole) == 0 {
		return whole
	}
	return resource.NewMilliQuantity(q.MilliValue(), resource.DecimalSI)
}
