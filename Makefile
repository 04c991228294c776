# SPDX-License-Identifier: Apache-2.0
#
# make build     the programs, in bin/ (needs Go alone)
# make test      everything: installs what it needs from Debian, then all tests
# make vmtest    only what boots other kernels in QEMU; part of make test
# make demo      records a demo program for 3 s, here and through all services
# make soak      10,000 sessions on the real service; SESSIONS=2000 for fewer
# make fuzz      each fuzz target for FUZZTIME=60s
# make bench     the figures of docs/benchmarks.md, beside perf and bpftrace
# make packages  deb and rpm packages for amd64 and arm64, in dist/
# make generate  BPF objects, bindings and code for messages again (needs
#                Debian's clang-14 and protoc)
# make lint      formatting and static checks
# make help      this

SHELL := /bin/bash
GO ?= go
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Tests that lack a program fail instead of skipping: deps has installed it.
export SRPROF_REQUIRE_ALL ?= 1

# What the programs say to --version, and packages are ordered by.
VERSION ?= $(shell bash deploy/version.sh)
STAMP = -X github.com/carverauto/serviceradar-profiler/version.version=$(VERSION)

.PHONY: build packages test unit vmtest otel deps demo soak fuzz generate generated lint bench clean help

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(STAMP)' -o bin/ ./cmd/...

test: deps build lint generated unit otel

unit:
	$(GO) test -count=1 -p 1 -timeout 90m ./...

# A module of its own: what it compares with is heavy.
otel:
	cd test/otel && $(GO) vet ./... && $(GO) test -count=1 -timeout 30m ./...

vmtest: deps
	$(GO) test -count=1 -v -timeout 90m ./test/vm

deps:
	bash test/deps.sh

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./bpf ./sampler ./process ./profiler ./cmd/... ./test/vm/init
	$(STATICCHECK) ./...

packages:
	bash deploy/packages/build.sh dist $(VERSION)

generate:
	$(GO) generate ./bpf
	bash proto/generate.sh

# What is committed is what the sources say.
generated: generate
	git diff --exit-code -- bpf proto

demo: build
	$(GO) build -trimpath -o bin/demo ./test/programs/demo
	bash test/demo.sh

SESSIONS ?= 10000

soak:
	$(GO) test -count=1 -v -timeout 12h -run TestSoak ./test/soak -args -sessions $(SESSIONS)

fuzz:
	bash test/fuzz.sh

bench: build
	bash test/bench/deps.sh
	$(GO) run ./test/bench

clean:
	rm -rf bin dist demo-output

help:
	@sed -n 's/^# \(make\|  \)/\1/p' Makefile
