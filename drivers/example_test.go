package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// The way of a spec from a user's JSON to a driver.
func ExampleWorkloadSpec() {
	spec, err := drivers.DecodeSpec([]byte(`{
		"name": "web", "namespace": "shop", "image": "nginx:1.27",
		"ports": [{"containerPort": 80, "publish": true}],
		"resources": {"cpu": "500m", "memory": "256Mi"},
		"health": {"http": {"port": 80}}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	spec = spec.WithDefaults()
	if err := spec.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(spec.ID(), "replicas", spec.ReplicaCount(), "order", spec.UpdateOrder(), "grace", spec.Grace())
	// Output: shop/web replicas 1 order start-first grace 10s
}

// Validate reports every fault at once, each with its path.
func ExampleWorkloadSpec_Validate() {
	spec := drivers.WorkloadSpec{
		Name: "Web", Image: "nginx",
		Ports:  []drivers.Port{{ContainerPort: 80, HostPort: 80}},
		Update: drivers.Update{Order: drivers.StartFirst},
	}
	faults, _ := errors.AsType[*drivers.FieldErrors](spec.Validate())
	for _, f := range faults.Fields {
		fmt.Println(f.Path)
	}
	// Output:
	// name
	// update.order
}

func ExampleDecodeSpec() {
	_, err := drivers.DecodeSpec([]byte(`{"name": "web", "resources": {"cpus": 2, "memory": "256MB"}}`))
	fmt.Println(err)
	// Output: invalid spec: resources.cpus: is not a field; did you mean "cpu"?; resources.memory: want a quantity such as "500m", "2" or "256Mi", got "256MB"
}

func ExamplePolicy_Check() {
	spec := &drivers.WorkloadSpec{
		Name: "web", Image: "nginx",
		Volumes: []drivers.Volume{{Type: drivers.VolumeBind, Source: "/srv/data/../../etc", Target: "/data"}},
	}
	policy := drivers.Policy{AllowedHostPaths: []string{"/srv/data"}}
	fmt.Println(errors.Is(policy.Check(spec), drivers.ErrDenied))
	// Output: true
}

func ExampleSecretStore() {
	store := &drivers.SecretStore{LookupEnv: os.LookupEnv}
	os.Setenv(drivers.SecretEnvName("shop-eu", "DB_PASSWORD"), "hunter2\n")
	value, err := store.ResolveSecret(context.Background(), "shop-eu", drivers.SecretRef{Env: "DB_PASSWORD"})
	if err != nil {
		fmt.Println(err)
		return
	}
	password, err := drivers.SecretText(value)
	fmt.Println(drivers.Redact("login failed for shop:"+password, value), err)
	// Output: login failed for shop:[redacted] <nil>
}
