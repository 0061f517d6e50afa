# Walden. `make` alone says what there is.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What the tests and the linter run is put here, outside the repository's files.
TOOLS ?= $(or $(WALDEN_TOOLS),$(CURDIR)/.tools)
TOOLBIN := $(TOOLS)/bin
GO_VERSION := $(shell go env GOVERSION)
tool = $(TOOLBIN)/.$(1)-$(GO_VERSION)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Without its documentation generator the command-line library starts faster.
BUILD := CGO_ENABLED=0 go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w -X main.version=$(VERSION)'
# What ships, and so must build everywhere; the test harnesses need not.
SHIPPED := ./cmd/... ./storage/... ./wal/... ./basebackup/... ./replay/...
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

# Two packages at a time: each may run several PostgreSQL servers.
# In CI nothing is taken from an earlier run: Go does not see that a server changed.
TEST_FLAGS ?= -p 2 -timeout 30m $(if $(filter true,$(CI)),-count 1)
GOTESTSUM := $(TOOLBIN)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg
# What is worth the race detector: packages with goroutines, as far as they need no server.
RACE_PACKAGES ?= $(if $(filter ./...,$(PACKAGES)),./storage/... ./wal/archive ./wal/stream ./basebackup/... ./replay/... ./cmd/...,$(PACKAGES))
PACKAGES ?= ./...
FUZZTIME ?= 10s
SEED := $(or $(SEED),$(shell date +%s))
DURATION ?= 10m
DEMO_MAJOR ?= 17

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/walden: static, for this machine
	$(BUILD) -o bin/walden ./cmd/walden

.PHONY: test
test: packages postgres build $(call tool,gotestsum) $(call tool,versitygw) ## all tests, on PostgreSQL 15, 17 and 18; installs what they need (PACKAGES=./wal/... for some)
	@failed=; \
	echo "tests that need no server, with the race detector"; \
	$(GOTESTSUM) --hide-summary skipped -- -race -short $(TEST_FLAGS) $(RACE_PACKAGES) || failed=yes; \
	echo "all tests"; \
	WALDEN_BINARY=$(CURDIR)/bin/walden $(GOTESTSUM) -- $(TEST_FLAGS) $(PACKAGES) || failed=yes; \
	[ -z "$$failed" ]

.PHONY: soak
soak: packages postgres build $(call tool,versitygw) ## randomised runs: DURATION=10m each, SEED=… repeats one
	@echo "soak: SEED=$(SEED) DURATION=$(DURATION)"
	WALDEN_SOAK=$(DURATION) WALDEN_SEED=$(SEED) WALDEN_BINARY=$(CURDIR)/bin/walden go test -v -race -p 1 -count 1 -timeout 0 -run '^TestSoak' $(PACKAGES)

.PHONY: bench
bench: packages postgres build $(call tool,versitygw) ## throughput of the packages, then time and memory of whole backups and restores
	@scripts/install-packages.sh pgbackrest:pgbackrest || echo "bench: start-up will be compared with nothing"
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 60m $(PACKAGES)
	WALDEN_BENCH=1 WALDEN_BINARY=$(CURDIR)/bin/walden go test -v -p 1 -count 1 -timeout 60m -run '^TestBench' ./integration/...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10s
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: lint
lint: $(call tool,golangci-lint) ## golangci-lint with the layer rules, and the house rules of internal/lint
	$(TOOLBIN)/golangci-lint run ./...
	go test -count 1 ./internal/lint

.PHONY: format
format: $(call tool,golangci-lint) ## gofmt and goimports over everything
	$(TOOLBIN)/golangci-lint fmt ./...

.PHONY: cross
cross: ## binaries for every platform, in dist/
	@for platform in $(PLATFORMS); do \
		os=$${platform%/*} arch=$${platform#*/} ext=; \
		[ $$os = windows ] && ext=.exe; \
		echo "cross: $$platform"; \
		GOOS=$$os GOARCH=$$arch $(BUILD) $(SHIPPED); \
		GOOS=$$os GOARCH=$$arch $(BUILD) -o dist/walden-$$os-$$arch$$ext ./cmd/walden; \
	done

.PHONY: demo
demo: build ## the main job on a throw-away PostgreSQL: archive, back up, drop a table, get it back
	scripts/install-postgres.sh $(DEMO_MAJOR)
	@bindir=$$(scripts/install-postgres.sh --bindir $(DEMO_MAJOR)); \
	bin/walden demo $${bindir:+--pg-bin "$$bindir"}

.PHONY: packages
packages:
	@scripts/install-packages.sh

.PHONY: postgres
postgres:
	@scripts/install-postgres.sh

# A tool is built when its version, its checksums or Go itself has changed.
$(TOOLBIN)/.%-$(GO_VERSION): tools/%/go.mod tools/%/go.sum
	@mkdir -p $(TOOLBIN)
	@echo "building $*: $$(go -C tools/$* list -m $$(go -C tools/$* list -f '{{.Module.Path}}' tool)) (minutes, the first time)"
	go -C tools/$* build -o $(TOOLBIN)/ tool
	@touch $@

.PHONY: clean
clean: ## remove what was built; the installed tools stay in .tools
	rm -rf bin dist coverage.out
