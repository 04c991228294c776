// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/carverauto/serviceradar-profiler/"

// layers is the order of the packages (docs/architecture.md): a package
// imports only from lower layers, never sideways. Patterns are path.Match's.
var layers = [][]string{
	0: {"profile", "bpf", "spelling", "auth", "version", "interrupt", "proto/*", "proto/*/*"},
	1: {"config", "session", "process", "object", "encoding/*"},
	2: {"debugfile", "dwarf", "unwind", "encoding", "remedy", "privilege", "store", "terminal", "contexts", "input"},
	3: {"symbol", "sampler", "remote", "access", "metrics", "tracing", "session/sessiontest", "host", "store/*", "output"},
	4: {"serviceradar"},
	5: {"profiler", "debugdir", "daemon", "agent", "poller", "checks", "tryout"},
	6: {"cmd/*"},
	7: {"test/programs", "test/agents", "test/daemons", "."},
	8: {"test/collector", "test/hops"},
	9: {"test/*", "test/*/*"},
}

// doors are the only packages that may import a library, with the reason.
var doors = []struct {
	library string
	allowed []string
	reason  string
}{
	{"github.com/cilium/ebpf", []string{"bpf", "sampler"}, "what runs in the kernel has one place"},
	{"github.com/ianlancetaylor/demangle", []string{"symbol"}, "names are made readable once, where they are found"},
	{"github.com/google/pprof", []string{"encoding/pprof", "encoding", "test/*"}, "the format of others stays out of our data"},
	{"github.com/klauspost/compress", []string{"dwarf"}, "sections are inflated in one place, with its bounds"},
	{"github.com/ulikunitz/xz", []string{"object"}, "what is compressed in an object is opened there, within bounds"},
	{"go.opentelemetry.io", []string{"tracing", "test/*"}, "what is traced, and how, has one place"},
	{"google.golang.org/grpc", []string{"remote", "serviceradar", "auth", "tracing", "daemon", "proto/*", "proto/*/*", "cmd/*", "test/*"}, "services meet as session.Runner, not as gRPC"},
	{module + "proto/session/", []string{"remote", "test/*"}, "messages are a form of ours on the wire, and stay there"},
	{module + "proto/monitoring", []string{"serviceradar", "test/*"}, "who has ServiceRadar's messages in his program already imports remote and agent without ours"},
	{module + "proto/profiler", []string{"serviceradar", "test/*"}, "as proto/monitoring"},
	{"github.com/spiffe/go-spiffe", []string{"auth"}, "who a peer is, is found out in one place"},
	{"github.com/prometheus", []string{"metrics"}, "services count; what Prometheus makes of it has one place"},
	{"database/sql", []string{"store/sqlite"}, "what is kept has one interface, store.Store"},
	{"modernc.org/sqlite", []string{"store/sqlite"}, "one store, one driver"},
	{"github.com/spf13/cobra", []string{"cmd/*", "daemon"}, "only commands have command lines; those of the services are one"},
	{"github.com/chromedp", []string{"test/browser"}, "only tests drive a browser"},
}

// vague names say nothing about what is inside.
var vague = regexp.MustCompile(`^(util|utils|common|helper|helpers|types|models|core|shared|pkg|misc|base|lib)$`)

const (
	maxFileLines     = 450
	maxFunctionLines = 60 // "about 50"; tables of literals need not be cut to fit
)

type source struct {
	path string // of the file, from the root
	dir  string // of the package; "." for the root
	test bool
	file *ast.File
}

func parse(t *testing.T) ([]source, *token.FileSet) {
	t.Helper()
	fset := token.NewFileSet()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{p, filepath.ToSlash(filepath.Dir(p)), strings.HasSuffix(p, "_test.go"), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, fset
}

func layer(dir string) int {
	for n, patterns := range layers {
		if matches(patterns, dir) {
			return n
		}
	}
	return -1
}

func matches(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, dir) // the patterns are constants and good
		return ok
	})
}

func TestLayers(t *testing.T) {
	sources, _ := parse(t)
	for _, s := range sources {
		own := layer(s.dir)
		if own < 0 {
			t.Errorf("%s: package %s has no layer; if it has a home, write it into layers", s.path, s.dir)
			continue
		}
		for _, spec := range s.file.Imports {
			to, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ours || s.test { // tests may look at anything
				continue
			}
			if l := layer(to); l < 0 || l >= own {
				t.Errorf("%s: %s (layer %d) imports %s (layer %d): only lower layers may be imported", s.path, s.dir, own, to, l)
			}
		}
	}
}

func TestDoors(t *testing.T) {
	sources, _ := parse(t)
	for _, s := range sources {
		for _, spec := range s.file.Imports {
			p := strings.Trim(spec.Path.Value, `"`)
			for _, d := range doors {
				if strings.HasPrefix(p, d.library) && !matches(d.allowed, s.dir) {
					t.Errorf("%s imports %s, which only %v may: %s", s.path, p, d.allowed, d.reason)
				}
			}
		}
	}
}

func TestPackages(t *testing.T) {
	sources, _ := parse(t)
	comments := map[string]int{}
	for _, s := range sources {
		if vague.MatchString(path.Base(s.dir)) {
			t.Errorf("%s: the name %q says nothing; a noun is missing", s.path, path.Base(s.dir))
		}
		if s.test {
			if _, ok := comments[s.dir]; !ok && strings.HasSuffix(s.file.Name.Name, "_test") {
				continue
			}
		}
		if _, ok := comments[s.dir]; !ok && !s.test {
			comments[s.dir] = 0
		}
		if s.file.Doc != nil && !s.test && !ast.IsGenerated(s.file) {
			comments[s.dir]++
		}
	}
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want exactly one", dir, n)
		}
	}
}

func TestSizes(t *testing.T) {
	sources, fset := parse(t)
	for _, s := range sources {
		if ast.IsGenerated(s.file) {
			continue
		}
		if n := fset.Position(s.file.FileEnd).Line; n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: it has outgrown its room", s.path, n, maxFileLines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line; n > maxFunctionLines && !s.test {
				t.Errorf("%s: %s has %d lines, more than %d", s.path, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
}

// Each file says whose license it is under; the kernel side also GPL, as the
// kernel demands.
func TestLicenses(t *testing.T) {
	kernel := "SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0"
	apache := "SPDX-License-Identifier: Apache-2.0"
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		want := map[string]string{".go": apache, ".js": apache, ".css": apache, ".sh": apache, ".h": kernel, ".c": apache}[filepath.Ext(p)]
		if strings.HasSuffix(p, ".bpf.c") {
			want = kernel
		}
		if want == "" || d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		head := string(b[:min(len(b), 300)])
		if !strings.Contains(head, want) && !strings.Contains(head, "Code generated") {
			t.Errorf("%s does not begin with %q", p, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each library that we import ourselves has its line or page that says why.
func TestDecisions(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, p := range pages {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], "v") || strings.Contains(line, "// indirect") {
			continue
		}
		if !strings.Contains(all.String(), f[0]) {
			t.Errorf("%s is not in docs/decisions: what it saves, what it weighs, who keeps it", f[0])
		}
	}
}
