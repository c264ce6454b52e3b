#!/usr/bin/env bash
# Starts the built runtime in the foreground with its files in .kranix, for a developer to
# play with, and prints what to paste into a second terminal. See make run.
set -euo pipefail
cd "$(dirname "$0")/.."

# Images to deploy, where no registry is in reach. They stay for the next time.
bin/rig image kranix-demo/web:v1 WEB_VERSION=v1
bin/rig image kranix-demo/web:v2 WEB_VERSION=v2
bin/rig image kranix-demo/web:broken WEB_VERSION=v3 WEB_FAIL=exit

mkdir -p .kranix
cat >.kranix/web.yaml <<'EOF'
name: web
namespace: shop
image: kranix-demo/web:v1
ports:
  - {containerPort: 8080, hostPort: 8080, hostAddress: 127.0.0.1}
health:
  http: {port: 8080, path: /healthz}
EOF

cat <<EOF

Paste into a second terminal:

  cd $PWD && export PATH=\$PWD/bin:\$PATH
  kranix-runtime deploy -f .kranix/web.yaml
  curl http://127.0.0.1:8080/
  kranix-runtime status shop/web
  kranix-runtime logs shop/web
  kranix-runtime events shop/web
  sed s/:v1/:broken/ .kranix/web.yaml | kranix-runtime deploy -f -    # is rolled back
  kranix-runtime destroy shop/web

Workloads keep running when the runtime stops (Ctrl-C); destroy them first.

EOF

export KRANIX_RUNTIME_DEFAULT_BACKEND=docker
export KRANIX_RUNTIME_DATA_DIR=$PWD/.kranix/data
export KRANIX_NODE_LOCK_DIR=$PWD/.kranix/locks
if [[ -n ${KRANIX_TEST_DOCKER_HOST:-} ]]; then
	export KRANIX_DOCKER_HOST=$KRANIX_TEST_DOCKER_HOST
	unset KRANIX_TEST_DOCKER_HOST # not a setting of the runtime, which would say so
fi
exec bin/kranix-runtime run
