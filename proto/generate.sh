#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Generates the Go code beside each .proto file, with Debian's protoc and the
# generators that go.mod names.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH=$bin:$PATH protoc -I proto --go_out=proto --go_opt=paths=source_relative \
	--go-grpc_out=proto --go-grpc_opt=paths=source_relative \
	profiler/profiler.proto monitoring/monitoring.proto session/v1/session.proto
