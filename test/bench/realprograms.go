// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// realProgram is a program of Debian under load.
type realProgram struct {
	name  string
	start func() (*realTarget, error)
}

// realPrograms are Debian's own builds, by full path where a machine may have
// another. deps.sh installs them.
func (b *bench) realPrograms() []realProgram {
	command := func(line ...string) func() (*realTarget, error) {
		return func() (*realTarget, error) { return b.command("", line...) }
	}
	return []realProgram{
		{"redis-server", b.redisTarget},
		{"nginx", b.nginx},
		{"postgres", b.postgres},
		{"sqlite3", command("/usr/bin/sqlite3", ":memory:", sqliteQuery)},
		{"openssl rsa2048", command("/usr/bin/openssl", "speed", "-seconds", "600", "rsa2048")},
		{"openssl aes-256-gcm", command("/usr/bin/openssl", "speed", "-seconds", "600", "-bytes", "16384", "-evp", "aes-256-gcm")},
		{"xz", func() (*realTarget, error) { return b.compressor("/usr/bin/xz", "-6", "-c") }},
		{"zstd", func() (*realTarget, error) { return b.compressor("/usr/bin/zstd", "-12", "-c") }},
		{"imagemagick", command(append([]string{"/usr/bin/convert", "-size", "1200x1200", "plasma:"}, repeat(200, "-gaussian-blur", "0x4", "-rotate", "3", "-resize", "1200x1200!", "-modulate", "101")...)...)},
		{"gcc's cc1plus", b.compiler},
		{"git diff-tree", b.gitDiff},
		{"git pack-objects", b.gitPack},
		{"python3", b.script("/usr/bin/python3", "py", pythonScript)},
		{"perl", b.script("/usr/bin/perl", "pl", perlScript)},
		{"node", b.nodeTarget},
	}
}

func repeat(n int, words ...string) []string {
	var all []string
	for range n {
		all = append(all, words...)
	}
	return append(all, "null:")
}

// command starts a program whose output nobody wants.
func (b *bench) command(dir string, line ...string) (*realTarget, error) {
	c := exec.CommandContext(b.ctx, line[0], line[1:]...)
	c.Dir = dir
	p, err := programs.Launch(c, "")
	if err != nil {
		return nil, err
	}
	return &realTarget{[]int{p.PID}, p.Stop}, nil
}

const sqliteQuery = `
CREATE TABLE t(k INTEGER PRIMARY KEY, a TEXT, b REAL);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)
  INSERT INTO t SELECT x, printf('%08x', (x * 2654435761) % 4294967296), x / 3.0 FROM c;
CREATE INDEX i ON t(a);
SELECT count(*), sum(length(p.a || q.a)), max(p.b * q.b), group_concat(DISTINCT substr(p.a, 1, 2))
  FROM t p, t q WHERE p.a LIKE '%a' || substr(q.a, 1, 1) || '%' OR q.a IN (SELECT a FROM t r WHERE r.k = p.k) GROUP BY p.k % 100 ORDER BY 2;
`

const pythonScript = `
import json, re, random, collections
random.seed(1)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
class Node:
    def __init__(self, k): self.k, self.next = k, None
words = ["".join(random.choices("abcdefgh", k=random.randint(2, 9))) for _ in range(5000)]
while True:
    fib(18)
    c = collections.Counter(w[:3] for w in words)
    s = json.dumps({w: [len(w), w.upper()] for w in words})
    json.loads(s)
    sorted(words, key=lambda w: (len(w), w[::-1]))
    re.findall(r"(a+b|c[d-f]*)g", " ".join(words))
    head = None
    for w in words:
        n = Node(w); n.next = head; head = n
`

const perlScript = `
use strict; use warnings; srand(1);
sub fib { my $n = shift; return $n < 2 ? $n : fib($n - 1) + fib($n - 2) }
my @words = map { join '', map { chr(97 + int rand 8) } 1 .. 2 + int rand 8 } 1 .. 5000;
while (1) {
	fib(15);
	my %c; $c{substr $_, 0, 3}++ for @words;
	my $s = join ' ', sort { length $a <=> length $b || reverse($a) cmp reverse($b) } @words;
	my $n = () = $s =~ /(a+b|c[d-f]*)g/g;
	$s =~ s/(\w)(\w+)/\u$1$2/g;
	my @parts = split / /, $s;
}
`

// script runs a program in an interpreter.
func (b *bench) script(interpreter, extension, text string) func() (*realTarget, error) {
	return func() (*realTarget, error) {
		path := b.file("script." + extension)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
		return b.command("", interpreter, path)
	}
}

func (b *bench) nodeTarget() (*realTarget, error) {
	tg, err := b.node()
	if err != nil {
		return nil, err
	}
	return &realTarget{[]int{tg.pid}, tg.stop}, nil
}

// compressor gives a program files of the machine.
func (b *bench) compressor(line ...string) (*realTarget, error) {
	text, err := corpus()
	if err != nil {
		return nil, err
	}
	return b.fed(text, line...)
}

// fed starts a program that reads standard input, where the same text comes for
// ever.
func (b *bench) fed(text []byte, line ...string) (*realTarget, error) {
	fifo := b.file(filepath.Base(line[0]) + ".fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return nil, err
	}
	tg, err := b.command("", append([]string{"/bin/sh", "-c", `fifo=$1; shift; exec "$@" <"$fifo" >/dev/null`, "sh", fifo}, line...)...)
	if err != nil {
		return nil, err
	}
	to, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		tg.stop()
		return nil, err
	}
	go func() {
		defer to.Close()
		for {
			if _, err := to.Write(text); err != nil {
				return // the reader was stopped
			}
		}
	}()
	return tg, nil
}

// corpus is some 40 MB of what is on disks: programs, libraries and texts.
func corpus() ([]byte, error) {
	var all []byte
	for _, pattern := range []string{"/usr/bin/perl", "/usr/share/perl/*/unicore/*.pl", "/usr/lib/x86_64-linux-gnu/lib[cmns]*.so.*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			if all = append(all, b...); len(all) > 40<<20 {
				return all, nil
			}
		}
	}
	if len(all) < 1<<20 {
		return nil, errors.New("this machine has next to no files to compress")
	}
	return all, nil
}

// compiler starts the compiler proper on a large preprocessed source.
func (b *bench) compiler() (*realTarget, error) {
	var s strings.Builder
	s.WriteString("#include <algorithm>\n#include <functional>\n#include <map>\n#include <regex>\n#include <string>\n#include <unordered_map>\n#include <vector>\n")
	for i := range 1500 {
		fmt.Fprintf(&s, "struct T%d { int v[%d]; bool operator<(const T%d &o) const { return v[0] < o.v[0]; } };\n", i, i+1, i)
		fmt.Fprintf(&s, "int f%d(const std::string &a) { std::map<std::string, T%d> m; std::vector<T%d> v(a.size()); std::sort(v.begin(), v.end()); for (auto &t : v) m[a + char(t.v[0])] = t; return std::regex_match(a, std::regex(\"a%d\")) + m.size(); }\n", i, i, i, i)
	}
	source, full := b.file("large.cpp"), b.file("large.ii")
	if err := os.WriteFile(source, []byte(s.String()), 0o644); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(b.ctx, "g++", "-E", "-o", full, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("g++: %w\n%s", err, out)
	}
	path, err := exec.CommandContext(b.ctx, "g++", "-print-prog-name=cc1plus").Output()
	if err != nil {
		return nil, fmt.Errorf("g++: %w", err)
	}
	return b.command("", strings.TrimSpace(string(path)), "-quiet", "-O2", "-fpreprocessed", full, "-o", "/dev/null")
}

// repository makes one of 4,000 commits, once.
func (b *bench) repository() (string, error) {
	dir := b.file("repository")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	init := exec.CommandContext(b.ctx, "git", "init", "-q", "--bare", dir)
	if out, err := init.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git init: %w\n%s", err, out)
	}
	load := exec.CommandContext(b.ctx, "git", "-C", dir, "fast-import", "--quiet")
	load.Stdin = strings.NewReader(history())
	if out, err := load.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git fast-import: %w\n%s", err, out)
	}
	return dir, nil
}

// gitDiff is what git log -p does for each commit, for ever.
func (b *bench) gitDiff() (*realTarget, error) {
	dir, err := b.repository()
	if err != nil {
		return nil, err
	}
	commits, err := exec.CommandContext(b.ctx, "git", "-C", dir, "rev-list", "main").Output()
	if err != nil {
		return nil, fmt.Errorf("git rev-list: %w", err)
	}
	return b.fed(commits, "/usr/bin/git", "-C", dir, "diff-tree", "--stdin", "-p", "--stat", "-C", "--find-copies-harder")
}

// gitPack is what git gc spends its time in.
func (b *bench) gitPack() (*realTarget, error) {
	dir, err := b.repository()
	if err != nil {
		return nil, err
	}
	return b.command(dir, "/bin/sh", "-c", `exec "$@" </dev/null`, "sh", "/usr/bin/git", "pack-objects", "--all", "--stdout", "-q", "--no-reuse-delta", "--no-reuse-object", "--window=2000", "--threads=1")
}

// history is a stream for git fast-import: in each commit some lines of two of
// 80 files change.
func history() string {
	var s strings.Builder
	const files, lines, commits = 80, 300, 4000
	content := func(file, commit int) string {
		var t strings.Builder
		for l := range lines {
			changed := 0
			if (l*7+file)%50 == commit%50 {
				changed = commit
			}
			fmt.Fprintf(&t, "line %d of file %d, changed in %d: %x\n", l, file, changed, l*2654435761*(file+1)+changed)
		}
		return t.String()
	}
	for c := range commits {
		fmt.Fprintf(&s, "commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 2\nc\n", 1600000000+c*60)
		for _, f := range []int{c % files, (c * 7) % files} {
			text := content(f, c)
			fmt.Fprintf(&s, "M 100644 inline f%d\ndata %d\n%s\n", f, len(text), text)
		}
		s.WriteString("\n")
	}
	return s.String()
}

// until waits for what a program does a while after its start.
func (b *bench) until(what string, is func() bool) error {
	for range 300 {
		if is() {
			return nil
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("after 30 s there still is no %s", what)
}
