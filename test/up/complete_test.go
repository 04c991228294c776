// SPDX-License-Identifier: Apache-2.0

package up_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// completer is what a shell needs to tell what it would offer for a line: it reads
// lines, and writes what is offered, and --- after that.
const completer = `
compopt() { :; } # works while a key is pressed alone
source /usr/share/bash-completion/bash_completion
source <(srprof completion bash)
while IFS= read -r COMP_LINE; do
	COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9 COMPREPLY=()
	read -ra COMP_WORDS <<<"$COMP_LINE"
	[[ $COMP_LINE != *" " ]] || COMP_WORDS+=("")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	$(complete -p srprof | sed 's/.*-F \([^ ]*\).*/\1/') srprof "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
	printf '%s\n' "${COMPREPLY[@]}" ---
done
`

// A bash completes hosts, processes, sessions, contexts and words of the system
// that runs.
func TestBashCompletes(t *testing.T) {
	if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
		t.Skip("bash-completion is missing: apt-get install bash-completion: ", err)
	}
	u := newSite(t).up()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	target := programs.Start(t, "shared.c", programs.Options{As: "srprof-up-target"})
	pid := fmt.Sprint(target.PID)
	out, stderr, code := u.srprof("start", host, "--pid", pid, "-d", "5m", "-o", "json")
	var one struct{ ID string }
	if err := json.Unmarshal([]byte(out), &one); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, stderr)
	}
	cases := []struct{ line, want string }{
		{"srprof ho", "hosts"},
		{"srprof ps ", host},
		{"srprof run " + host + " --pid " + pid, pid},
		{"srprof run " + host + " --name srprof-up-t", "srprof-up-targe"},
		{"srprof record --name srprof-up-t", "srprof-up-targe"},
		{"srprof watch " + one.ID[:6], one.ID},
		{"srprof fetch " + one.ID + " --host ", host},
		{"srprof list --state can", "canceled"},
		{"srprof hosts --context ", "srprof-up"},
		{"srprof context use sr", "srprof-up"},
		{"srprof fetch --format sp", "speedscope"},
		{"srprof hosts -o w", "wide"},
	}
	var lines []string
	for _, c := range cases {
		lines = append(lines, c.line)
	}
	all := u.offers(lines)
	for i, c := range cases {
		offered := all[i]
		word := func(s string) string { w, _, _ := strings.Cut(strings.TrimSpace(s), " "); return w } // without its description
		if !slices.ContainsFunc(offered, func(s string) bool { return word(s) == c.want }) {
			t.Errorf("%q is completed by %q, want %q", c.line, offered, c.want)
		}
	}
	target.Stop()
	u.end(syscall.SIGTERM)
	u.nothingRemains()
}

// offers is what bash offers for each line.
func (u *system) offers(lines []string) (all [][]string) {
	u.t.Helper()
	c := u.command()
	c.Path, _ = exec.LookPath("bash")
	c.Args = []string{"bash", "--norc", "-c", completer}
	c.Env = append(c.Env, "PATH="+filepath.Dir(daemons.Path("srprof"))+string(filepath.ListSeparator)+os.Getenv("PATH"))
	c.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || stderr.Len() > 0 {
		u.t.Errorf("bash: %v: %s", err, &stderr)
	}
	offered := strings.Split(string(out), "---\n")
	if len(offered) != len(lines)+1 {
		u.t.Fatalf("bash says %q to %d lines", out, len(lines))
	}
	for _, o := range offered[:len(lines)] {
		all = append(all, strings.Split(o, "\n"))
	}
	return all
}
