// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func (b *bench) redisTarget() (*realTarget, error) {
	tg, err := b.redis()
	if err != nil {
		return nil, err
	}
	return &realTarget{[]int{tg.pid}, tg.stop}, nil
}

// freePort is one that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

const nginxConfig = `
daemon off; worker_processes 1; user root; pid %[1]s/nginx.pid; error_log stderr crit;
events { worker_connections 256; }
http {
	access_log off; gzip on; gzip_types text/plain; default_type text/plain;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { listen 127.0.0.1:%[2]s; root %[1]s/www; location /list { autoindex on; alias /usr/bin; } }
}
`

// nginx is one worker that compresses a page.
func (b *bench) nginx() (*realTarget, error) {
	dir := b.file("nginx")
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		return nil, err
	}
	page := strings.Repeat("Some text of a page that is neither short nor long. ", 200)
	if err := os.WriteFile(filepath.Join(dir, "www", "page.txt"), []byte(page), 0o644); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, port), 0o644); err != nil {
		return nil, err
	}
	server, err := programs.Launch(exec.CommandContext(b.ctx, "/usr/sbin/nginx", "-p", dir, "-c", config), "")
	if err != nil {
		return nil, err
	}
	workers, err := b.children(server.PID, "nginx: worker", 1)
	if err != nil {
		server.Stop()
		return nil, err
	}
	load, err := programs.Launch(exec.CommandContext(b.ctx, "wrk", "-t", "1", "-c", "16", "-d", "600", "-H", "Accept-Encoding: gzip", "http://127.0.0.1:"+port+"/page.txt"), "")
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &realTarget{workers, func() { load.Stop(); server.Stop() }}, nil
}

// children waits until a process has so many of a title and returns them.
func (b *bench) children(pid int, title string, n int) ([]int, error) {
	var found []int
	err := b.until(title, func() bool {
		found = nil
		all, _ := process.Children(pid) // tried again
		for _, c := range all {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c)) // it may have ended
			if strings.HasPrefix(string(line), title) {
				found = append(found, c)
			}
		}
		return len(found) >= n
	})
	return found, err
}

// postgres is the backends of two connections of pgbench. It will not run as
// root, so it runs as the user that its package made.
func (b *bench) postgres() (*realTarget, error) {
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(bins) == 0 {
		return nil, errors.New("postgresql is not installed")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "srprof-bench-postgres-*") // the bench's own is closed to others
	if err != nil {
		return nil, err
	}
	clean := func() { os.RemoveAll(dir) }
	if err := os.Chown(dir, uid, gid); err != nil {
		clean()
		return nil, err
	}
	as := func(line ...string) *exec.Cmd {
		c := exec.CommandContext(b.ctx, line[0], line[1:]...)
		c.Path = filepath.Join(bins[len(bins)-1], line[0])
		c.Dir = dir
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return c
	}
	tg, err := b.postgresIn(dir, as)
	if err != nil {
		clean()
		return nil, err
	}
	stop := tg.stop
	tg.stop = func() { stop(); clean() }
	return tg, nil
}

func (b *bench) postgresIn(dir string, as func(...string) *exec.Cmd) (*realTarget, error) {
	data := filepath.Join(dir, "data")
	if out, err := as("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	server, err := programs.Launch(as("postgres", "-D", data, "-k", dir, "-h", "", "-c", "fsync=off", "-c", "shared_buffers=64MB"), "")
	if err != nil {
		return nil, err
	}
	stop := func() { server.Stop() }
	socket := filepath.Join(dir, ".s.PGSQL.5432")
	err = b.until("socket of postgres", func() bool {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	if err == nil {
		var out []byte
		if out, err = as("pgbench", "-h", dir, "-U", "postgres", "-i", "-q", "-s", "5", "postgres").CombinedOutput(); err != nil {
			err = fmt.Errorf("pgbench: %w\n%s", err, out)
		}
	}
	if err != nil {
		stop()
		return nil, err
	}
	load, err := programs.Launch(as("pgbench", "-h", dir, "-U", "postgres", "-c", "2", "-T", "600", "postgres"), "")
	if err != nil {
		stop()
		return nil, err
	}
	all := func() { load.Stop(); stop() }
	backends, err := b.children(server.PID, "postgres: postgres postgres", 2)
	if err != nil {
		all()
		return nil, err
	}
	return &realTarget{backends, all}, nil
}
