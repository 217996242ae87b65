# Every step that CI runs is a target here. `make` is what to run before a commit.

GO       ?= go
PACKAGES ?= ./...

# What goes into `myelin version`; empty where there is no git.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# The race detector needs a C compiler on Linux. Where there is none the tests run without it.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

# Tools have a module of their own, so that they cannot change the product's dependencies.
TOOL = $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := all
.PHONY: all build run test fuzz fmt fmt-check lint conformance interop interop-deps torture chaos bench bench-client docs clean help

all: fmt-check lint test ## what to run before a commit

build: ## bin/myelin, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/myelin ./cmd/myelin

run: build ## build, then serve MQTT on 127.0.0.1:1883 and WebSocket on 127.0.0.1:8083/mqtt
	./bin/myelin serve --data bin/myelin-data

test: ## all tests of the module, both connection drivers, with the race detector
ifeq ($(RACE),)
	@echo "make: no C compiler, so the tests run without the race detector" >&2
endif
	$(GO) test $(RACE) -timeout 10m $(PACKAGES)
ifneq ($(RACE),)
	@echo "make: once more without the race detector, what counts allocations and bytes"
	$(GO) test -timeout 10m -run 'Alloc|Garbage|Size|Memory|ManyRetained' ./packet ./client ./broker ./internal/transport ./internal/route
endif

fuzz: ## each fuzz target for a minute (FUZZTIME=10s for less)
	tools/fuzz.sh

fmt: ## format the code
	gofmt -w .

fmt-check:
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; }

lint: ## gofmt, vet for three systems and each build tag, staticcheck, code that nothing reaches
	tools/lint.sh

CONFORMANCE = $(GO) test -tags conformance -count=1 -timeout 10m ./test/conformance

conformance: ## one case for each normative statement, against the real program: both drivers, WebSocket, and without a disk
	$(CONFORMANCE)
	$(CONFORMANCE) -serve "--io goroutine"
	$(CONFORMANCE) -ws
	$(CONFORMANCE) -serve "--durability memory"

interop-deps: ## install other people's clients, for make interop
	test/interop/deps.sh

interop: build ## the program with other people's clients
	cd test/interop && $(GO) test -count=1 -timeout 10m ./...

torture: build ## kill the program a hundred times under load, and account for every message (TORTURE="-kills 5", or -mosquitto)
	$(GO) run ./test/torture $(TORTURE)

chaos: ## a thousand faults in each test that breaks a client's connections (CHAOS=100 for less)
	MYELIN_CHAOS=$(or $(CHAOS),1000) $(GO) test -count=1 -timeout 20m -run 'Chaos|Killed' ./client

bench: build ## compare with other brokers, and write docs/benchmarks.md (BENCH="-run q0" for a part, on the screen only)
	$(GO) run ./internal/bench/cmd $(or $(BENCH),-md docs/benchmarks.md)

bench-client: build ## compare the client library with Eclipse Paho's (COUNT=5 for more runs, of which the best counts)
	cd test/interop && $(GO) test -run '^$$' -bench 'BenchmarkClient|BenchmarkIdle' -benchtime 500ms -count $(or $(COUNT),3) -cpu 1 . | awk -f speed.awk

docs: ## write anew what is made from the code
	$(GO) test ./internal/config ./internal/cli -run 'TestDocs' -rewrite
	$(CONFORMANCE) -table docs/conformance.md

clean: ## remove what was built
	rm -rf bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile
