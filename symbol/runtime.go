// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"errors"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// RunTimeCode is what names the code that one process makes at run time. It
// has no object: addresses are looked up as they are.
type RunTimeCode struct {
	Sources []Source // best first
	Err     error    // why what they do not know has no name
}

// Why code that was made at run time has no name.
var (
	// ErrAnonymous: the code has no file; a JIT or a loader of its own made it.
	ErrAnonymous = errors.New("code without a file (made at run time)")
	// ErrNotWritten: its process writes down what code it makes, but not this.
	ErrNotWritten = errors.New("code made at run time that is not in the process's own list")
	// ErrInterpreted: the functions of a language run in those of its interpreter.
	ErrInterpreted = errors.New("its functions do not show, only those of the interpreter")
)

// MadeError is ErrAnonymous where it is known what makes the code.
type MadeError struct{ Runtime string }

func (e *MadeError) Error() string { return "code that " + e.Runtime + " made at run time" }
func (e *MadeError) Unwrap() error { return ErrAnonymous }

// Remedied is an error that one can do something about.
type Remedied struct {
	Err    error
	Remedy string // what to do, as a command to the reader
}

func (r *Remedied) Error() string { return r.Err.Error() }
func (r *Remedied) Unwrap() error { return r.Err }

// Runtime is a program that runs others, and compiles them as it does.
type Runtime struct {
	Name string
	// Start is how to start it so that its functions have names.
	Start string
	// Tell has the names written by one that runs already, $PID being its PID;
	// "" where that is not possible.
	Tell string
	// Interprets says that without names nothing is missing: its functions then
	// run in those of the interpreter, which have names.
	Interprets bool

	object *regexp.Regexp
}

// runtimes are told by an object that they have mapped. What each one needs is
// said in the documents of its version: Node.js 20 (node --v8-options), JDK 17
// (jcmd PID help Compiler.perfmap), Python 3.12 (Doc/howto/perf_profiling.rst),
// .NET 8 (runtime configuration: debugging and profiling), Erlang/OTP 25 (BeamAsm).
var runtimes = []Runtime{
	{Name: "Node.js", object: regexp.MustCompile(`^(node|nodejs|libnode\.so.*)$`),
		Start: "start it with --perf-basic-prof --interpreted-frames-native-stack"},
	{Name: "Java", object: regexp.MustCompile(`^libjvm\.so$`),
		Start: "start it with -XX:+PreserveFramePointer, for whole stacks",
		Tell:  "run jcmd $PID Compiler.perfmap (Java 17 or newer) before the recording ends"},
	{Name: ".NET", object: regexp.MustCompile(`^libcoreclr\.so$`),
		Start: "start it with DOTNET_PerfMapEnabled=1 in its environment"},
	{Name: "Erlang", object: regexp.MustCompile(`^beam(\.smp)?$`),
		Start: "start it with +JPperf true"},
	{Name: "Python", object: python, Interprets: true,
		Start: "start it with -X perf"},
}

var python = regexp.MustCompile(`^(?:lib)?python3(?:\.(\d+))?(?:\.so.*)?$`)

// RuntimeOf tells the runtime by the path of an object; nil if it is none.
func RuntimeOf(object string) *Runtime {
	base := path.Base(object)
	for i := range runtimes {
		r := runtimes[i]
		found := r.object.FindStringSubmatch(base)
		if found == nil {
			continue
		}
		if r.object == python && len(found) > 1 && found[1] != "" {
			// Python 3.12 is the first that can.
			if minor, err := strconv.Atoi(found[1]); err == nil && minor < 12 {
				r.Start = "use Python 3.12 or newer, and start it with -X perf (this is 3." + found[1] + ")"
			}
		}
		return &r
	}
	return nil
}

// Remedy says what gives a process's functions names.
func (r *Runtime) Remedy(pid int) string {
	tell := strings.ReplaceAll(r.Tell, "$PID", strconv.Itoa(pid))
	if tell == "" {
		return r.Start
	}
	return tell + "; " + r.Start
}

// Again says what gives those functions names that were compiled since the
// list was written; "" where it is always up to date.
func (r *Runtime) Again(pid int) string {
	return strings.ReplaceAll(r.Tell, "$PID", strconv.Itoa(pid))
}
