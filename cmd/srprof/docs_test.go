// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// shellWords are a line's, of which some are in quotes, up to a comment.
func shellWords(line string) (all []string) {
	for {
		line = strings.TrimLeft(line, " ")
		switch {
		case line == "" || line[0] == '#':
			return all
		case line[0] == '\'':
			word, rest, _ := strings.Cut(line[1:], "'")
			all, line = append(all, word), rest
		default:
			word, rest, _ := strings.Cut(line, " ")
			all, line = append(all, word), rest
		}
	}
}

// TestCLIPage does what docs/cli.md says, but for the address, the durations,
// and the ID of the session.
func TestCLIPage(t *testing.T) {
	s := newSite(t)
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	address := s.fleet(3)
	programs.Start(t, "split.c", programs.Options{As: "checkout"})
	t.Chdir(s.dir)
	id, ran := "", 0
	for line := range strings.Lines(string(page)) {
		args := shellWords(strings.TrimSpace(line))
		if len(args) < 2 || args[0] != "srprof" || !strings.HasPrefix(line, "srprof ") || args[1] == "and" {
			continue
		}
		for i := range args {
			switch args[i] {
			case "poller.example:50086":
				args[i] = address
			case "certs":
				args[i] = s.certs
			case "30s":
				args[i] = "1s"
			case exampleSession:
				args[i] = id[:len(exampleSession)]
			}
		}
		if args[1] == "start" {
			id = s.started(args[1:])
		} else {
			s.expect(exitOK, nil, args[1:]...)
		}
		ran++
	}
	if ran < 20 {
		t.Errorf("ran %d commands of the page, want 20 at least", ran)
	}
	s.contains("by-host.svg", "web-01", "web-02", "web-03", "hot_a")
	for _, name := range []string{"checkout.svg", "all.pb.gz", "of-web-03.folded", "checkout.html", "all.html", "web-02.pb.gz", "merged.svg"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

// started starts a session that all hosts get samples of, and waits for its end.
func (s *site) started(args []string) string {
	s.Helper()
	for d := time.Second; ; d *= 3 {
		args[slices.Index(args, "-d")+1] = d.String()
		id := strings.TrimSpace(s.expect(exitOK, nil, args...).out)
		r := s.srprof("watch", id)
		if r.code == exitOK {
			return id
		}
		if !strings.Contains(r.out+r.err, "waited for a CPU") || d > 5*time.Minute {
			s.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
		}
	}
}
