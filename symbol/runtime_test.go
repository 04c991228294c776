// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"strings"
	"testing"
)

func TestRuntimeOf(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/bin/node": "Node.js", "/opt/x/nodejs": "Node.js", "/usr/lib/libnode.so.108": "Node.js",
		"/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so":            "Java",
		"/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so": ".NET",
		"/usr/lib/erlang/erts-13.1.5/bin/beam.smp":                           "Erlang",
		"/usr/bin/python3.11": "Python", "/usr/lib/libpython3.12.so.1.0": "Python", "/usr/bin/python3": "Python",
		"/usr/bin/nodes": "", "/usr/lib/libjvm.so.old": "", "/usr/bin/python2.7": "", "/usr/bin/ipython3": "", "": "",
	} {
		r := RuntimeOf(path)
		switch {
		case r == nil && want != "", r != nil && r.Name != want:
			t.Errorf("%s: got %+v, want %q", path, r, want)
		case r != nil && !strings.HasPrefix(r.Start, "start it with") && !strings.Contains(path, "3.11"):
			t.Errorf("%s: %q", path, r.Start)
		}
	}
	if got := RuntimeOf("/usr/bin/python3.11").Start; !strings.Contains(got, "3.12") {
		t.Errorf("Python 3.11 is told to %s", got)
	}
	java := RuntimeOf("/x/libjvm.so")
	if got := java.Remedy(42); !strings.Contains(got, "jcmd 42 Compiler.perfmap") || !strings.Contains(got, "-XX:+PreserveFramePointer") {
		t.Errorf("Java is told to %s", got)
	}
	if got := java.Again(42); !strings.Contains(got, "jcmd 42 Compiler.perfmap") || strings.Contains(got, "start it") {
		t.Errorf("Java is told to %s", got)
	}
}
