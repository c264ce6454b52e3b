package config

import "fmt"

func sprint(format string, v any) string { return fmt.Sprintf(format, v) }

// documented is the file as users know it.
const documented = `
runtime:
  default_backend: kubernetes        # docker | kubernetes | podman | compose | remote | edge; used when a spec names none

docker:
  host: "unix:///var/run/docker.sock"
  api_version: "1.45"                # the highest to use; negotiated down to what the engine speaks

kubernetes:
  kubeconfig: ""                     # empty: in-cluster, else the usual kubeconfig rules
  context: ""                        # empty: current context
  default_namespace: "default"

podman:
  socket: "unix:///run/user/1000/podman/podman.sock"   # empty: found by itself, rootless first

remote:
  ssh_key_path: "~/.ssh/id_rsa"
  known_hosts_path: "~/.ssh/known_hosts"

gpu:
  enabled: false
  default_vendor: "nvidia"           # nvidia | amd
  nvidia_device_path: "/dev/nvidia0"
  amd_device_path: "/dev/kfd"

ephemeral:
  enabled: false
  default_ttl: "2h"
  max_environments: 10
  namespace_prefix: "ephem-"
  auto_teardown: true                # tear down what has expired
  teardown_on_merge: true
  teardown_on_close: true
  cleanup_interval: "5m"

edge_agent:
  enabled: false
  node_id: ""                        # generated and kept when empty
  node_name: ""                      # host name when empty
  ip_address: ""                     # detected when empty
  port: 50052                        # the control plane's leaf-node port
  heartbeat_interval: "30s"
  auth_token: ""                     # one-time join token; never printed

image_cache:
  enabled: false
  cache_size_gb: 100
  max_cached_images: 50
  ttl: "168h"
  prepull_images: []                 # nginx:latest, postgres:14
  registry_mirrors: []               # https://mirror.example.com

metrics:
  enabled: true
  collection_interval: "30s"
  retention_period: "24h"
  expose_endpoint: true
  metrics_port: 9090

`
