package subjects_test

import (
	"fmt"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// A deploy command for whichever node of the docker pool takes it, as it is published
// with jetstream.JetStream.PublishMsg.
func ExampleEncode() {
	subject, err := subjects.Command(subjects.Workload{Backend: "docker", Node: subjects.Any, Namespace: "shop", Name: "cart"}, subjects.Deploy)
	if err != nil {
		fmt.Println(err)
		return
	}
	event, err := subjects.NewEvent("/shop/release", subjects.TypeDeploy, "shop/cart", map[string]any{"name": "cart", "namespace": "shop", "image": "cart:1.4"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	event.SetID("release 42")
	msg, err := subjects.Encode(subject, event)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(msg.Subject)
	fmt.Println(msg.Header.Get("ce-type"), msg.Header.Get("ce-id"))
	fmt.Println(msg.Header.Get("Nats-Msg-Id"))
	// Output:
	// kranix.cmd.docker._.shop.cart.deploy
	// io.kranix.command.deploy.v1 release%2042
	// /shop/release|release%2042
}

// What was published by hand, with no header at all, is read as well.
func ExampleDecode() {
	event, err := subjects.Decode(nil, []byte(`{"specversion":"1.0","id":"1","source":"/me","type":"io.kranix.command.destroy.v1","subject":"shop/cart"}`))
	fmt.Println(event.Type(), event.Subject(), err)
	_, err = subjects.Decode(nil, []byte(`{"specversion":"1.0","id":"1"}`))
	fmt.Println(err)
	// Output:
	// io.kranix.command.destroy.v1 shop/cart <nil>
	// invalid CloudEvent: missing required attributes: source, type
}
