# Weir. The two commands of the README are `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/weirstream/weir/cmd/cli.Version=$(VERSION)
BIN     := bin/weir
CONSOLE := dashboards/console/web

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: demo
demo: build ## build, then run the appliance with three simulated streams
	@exec $(BIN) demo $(ARGS)

.PHONY: build
build: toolchain ## build bin/weir
	go build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/weir

.PHONY: toolchain
toolchain:
	@test/scripts/install.sh toolchain

.PHONY: test-tools
test-tools:
	@test/scripts/install.sh tests

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-clean:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

.PHONY: test
# A commit's randomised tests try the same worlds wherever they run, see test/seeds/doc.go.
test: export WEIR_SEED_BASE ?= $(shell git rev-parse HEAD 2>/dev/null)
test: toolchain test-tools lint build test-console ## install what the tests need and pass them all
	WEIR_BINARY=$(CURDIR)/$(BIN) test/scripts/test.sh -race -timeout 25m ./...
	test/scripts/test.sh -timeout 10m ./test/windows # every row of the published files, without the race detector

.PHONY: test-long
test-long: toolchain test-tools lint build test-console ## the same suites at full size, long fuzzing included
	WEIR_LONG=1 WEIR_BINARY=$(CURDIR)/$(BIN) test/scripts/test.sh -timeout 8h ./...
	test/scripts/fuzz.sh 10m

.PHONY: console
console: ## build the web console into dashboards/console/dist (needs Node)
	cd $(CONSOLE) && npm ci --no-audit --no-fund && npm run build

.PHONY: test-console
test-console: test-tools ## drive the console in a real browser
	cd $(CONSOLE) && npm ci --no-audit --no-fund && npm test

.PHONY: bench
bench: build ## the whole path, the log beside Apache Kafka, windows beside Flink, the engine, decoding; with figures and the machine
	go run ./benchmarks/path -weir $(CURDIR)/$(BIN)
	go run ./benchmarks/ingest -out benchmarks/ingest/results.md
	go run ./benchmarks/log -weir $(CURDIR)/$(BIN) -out benchmarks/log/results.md
	go run ./benchmarks/cep -out benchmarks/cep/results.md
	go run ./benchmarks/cep -part engine -out benchmarks/cep/engine.md

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
