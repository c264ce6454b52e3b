package workers

import (
	"testing"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// BenchmarkDoor is what reading and checking one small deploy costs.
func BenchmarkDoor(b *testing.B) {
	schemas, err := newSchemas()
	if err != nil {
		b.Fatal(err)
	}
	d := &door{node: "n", backends: map[string]*pool{"sim": {name: "sim"}}, deadline: time.Hour, schemas: schemas}
	spec := &drivers.WorkloadSpec{Name: "cart", Namespace: "shop", Image: "web:1", Env: map[string]string{"A": "b"}}
	e, err := subjects.NewEvent("/test", subjects.TypeDeploy, "shop/cart", spec, nil)
	if err != nil {
		b.Fatal(err)
	}
	msg, err := subjects.Encode("kranix.cmd.sim._.shop.cart.deploy", e)
	if err != nil {
		b.Fatal(err)
	}
	in := arrival{subject: msg.Subject, header: msg.Header, data: msg.Data, seq: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.open(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
