// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// observed is what real pollers, agents and core were seen to do, by number, as
// far as a poller has to do with it; and which test says that ours does the same,
// or better.
var observed = []struct{ number, what, test string }{
	{"O1", "GetStatus with these fields, details as they are", "TestEveryType"},
	{"O2", "GetResults for type profiler, then with last_sequence", "TestSequence"},
	{"O3", "GetResults for type grpc", "TestEveryType"},
	{"O4", "StreamResults for sync, sweep and sync in the name", "TestEveryType"},
	{"O5", "up to 5 services in one message, more in a stream", "TestThresholds"},
	{"O6", "folded text in GetResults: wrapped", "TestEveryAnswer"},
	{"O7", "the same in January 2026: lost; here it is not", "TestEveryAnswer"},
	{"O8", "objects get the host's names", "TestEveryType"},
	{"O9", "folded text in a stream: an error", "TestEveryResult"},
	{"O10", "arrays in chunks become one", "TestEveryType"},
	{"O11", "no final chunk: an error", "TestEveryResult"},
	{"O12", "more than 4 MiB in one message: an error", "TestEveryResult"},
	{"O13", "5 MiB in chunks: slices of 3 MiB to core", "TestEveryResult"},
	{"O14", "UNIMPLEMENTED results: nothing is reported", "TestEveryType"},
	{"O15", "an agent's error as available JSON: handed on", "TestEveryAnswer"},
	{"O18", "what is down: error text of the agent, handed on", "TestEveryAnswer"},
	{"O20", "available as the agent says", "TestEveryAnswer"},
	{"O21", "an empty answer: not available, no data", "TestEveryAnswer"},
	{"O22", "type profiler at a real agent: empty", "TestEveryType"},
	{"O23", "its results: silent; here no_profiling", "TestProfilerResultsWithout"},
	{"O24", "a check that hangs: cut off at 30 s; here nobody else waits", "TestStuckAgent"},
	{"O25", "slow results: overlapping calls; here none", "TestSlowResults"},
	{"O26", "an agent that is not there at the start", "TestAgentComes"},
	{"O27", "names, certificates, TLS 1.2", "TestTLS"},
	{"O28", "unknown keys of agents and pollers", "TestInPlaceOfTheirs"},
	{"O31", "an agent that goes away and comes back", "TestAgentComes"},
	// Of agents and their checkers alone: O16, O17, O19, O29, O30.
}

// Each test that is named above exists.
func TestObserved(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				tests[f.Name.Name] = true
			}
		}
	}
	for _, o := range observed {
		if !tests[o.test] {
			t.Errorf("%s (%s): there is no %s", o.number, o.what, o.test)
		}
	}
}
