# kranix-runtime. "make" alone, or "make help", explains every target.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BIN     := bin/kranix-runtime
RIG     := bin/rig

# How long each fuzz target runs in "make test" and "make fuzz".
FUZZTIME ?= 5s
# One run of all tests of a package; engines answer slowly on a small machine.
TEST_TIMEOUT ?= 15m

# The packages with tests that need an engine are those with a file of that build tag.
ENGINE_TESTS = $(shell grep -rlE --include='*_test.go' '^//go:build .*\bintegration\b' . | xargs -r -n1 dirname | sort -u)

.PHONY: help
help: ## Explain every target (this text)
	@echo "kranix-runtime $(VERSION)"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "No engine, no root and no build tags are needed for: go build ./... ; go test -short ./..."

.PHONY: build
build: ## Build bin/kranix-runtime, with the version from git
	go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/kranix-runtime

.PHONY: demo
demo: build ## Show the whole product: a command on NATS becomes a running container (4 min cold, 30 s warm)
	@go run ./tests/demo -bin $(BIN)

.PHONY: run
run: build $(RIG) ## Start the runtime with embedded NATS in the foreground, to play with
	@$(RIG) exec docker -- tests/run.sh

.PHONY: test
test: lint test-unit fuzz test-engines ## Run everything: lint, unit tests with -race, fuzzing, tests against real engines

.PHONY: test-short
test-short: ## Run the quick tests only: no engine, no root, under a minute once compiled
	go test -short ./...

.PHONY: test-unit
test-unit: ## Run all tests that need no engine, with the race detector
	go test -race -timeout $(TEST_TIMEOUT) ./...

.PHONY: test-engines
test-engines: $(RIG) ## Run the driver suite and integration tests on a real dockerd, started when there is none
	@$(if $(ENGINE_TESTS),true,echo "no test has the build tag integration" >&2; exit 1)
	$(RIG) exec docker -- go test -race -tags integration -p 1 -count=1 -timeout $(TEST_TIMEOUT) $(ENGINE_TESTS)

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (5s) each
	tests/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: ## Check formatting, go vet, staticcheck and the import rules
	@bad=$$(gofmt -l .); \
		if [[ -n $$bad ]]; then echo "not formatted (run gofmt -w):"; echo "$$bad"; exit 1; fi
	go vet ./...
	go vet -tags integration ./...
	$$(go -C tests/tools tool -n staticcheck) -tags integration ./...
	go test ./tests/imports/...

.PHONY: bench
bench: ## Measure against the bare operations; prints a table and writes bench.json
	go run ./tests/bench

.PHONY: engines-up
engines-up: $(RIG) ## Make sure of the engines that tests need (installs them as root on Debian and Ubuntu)
	$(RIG) up docker

.PHONY: engines-status
engines-status: $(RIG) ## Say which engines tests would use
	$(RIG) status

.PHONY: engines-down
engines-down: $(RIG) ## Stop what engines-up has started
	$(RIG) down

# Always asked, because go build knows best whether anything changed.
.PHONY: $(RIG)
$(RIG):
	@go build -o $(RIG) ./tests/rig/cmd/rig

.PHONY: clean
clean: ## Remove what make has built
	rm -rf bin bench.json
