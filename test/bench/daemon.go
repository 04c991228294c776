// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// daemon is a running service and its client, over mTLS.
type daemon struct {
	*remote.Client
	tool *tool
}

// daemonProgram is the service's program and its certificates, made once: before
// there are targets that take the CPUs.
func (b *bench) daemonProgram() (program, certs string, err error) {
	program, certs = b.file("serviceradar-profiler"), b.file("certs")
	if _, err := os.Stat(program); err == nil {
		return program, certs, nil
	}
	if err := b.buildCommand("serviceradar-profiler", program); err != nil {
		return "", "", err
	}
	_, err = auth.WriteTryoutCertificates(certs, auth.Tryout{})
	return program, certs, err
}

// serve starts the service on certificates of its own, and returns when it
// answers.
func (b *bench) serve() (*daemon, error) {
	program, certs, err := b.daemonProgram()
	if err != nil {
		return nil, err
	}
	config := b.file("profiler.json")
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"listen_addr": address, "security": auth.Identity(certs, "profiler"),
		"access": map[string]any{"roles": map[string][]string{"admin.serviceradar": {"admin"}}, "rate": map[string]int{"per_second": 10_000, "burst": 10_000}}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	creds, err := auth.Identity(certs, "admin").ClientCredentials(address)
	if err != nil {
		return nil, err
	}
	d := &daemon{}
	if d.tool, err = b.begin(program, "--config", config); err != nil {
		return nil, err
	}
	if d.Client, err = remote.Dial(address, creds); err == nil {
		err = d.answers(b.ctx)
	}
	if err != nil {
		d.stop()
		return nil, fmt.Errorf("%w\n%s", err, d.tool.output.String())
	}
	return d, nil
}

// answers waits until the service does.
func (d *daemon) answers(ctx context.Context) (err error) {
	for end := time.Now().Add(giveUp); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err = d.List(ctx, session.Filter{}); !errors.Is(err, session.ErrUnavailable) {
			return err
		}
		select {
		case <-d.tool.exited:
			return fmt.Errorf("the service ended: %w", err)
		default:
		}
	}
	return err
}

func (d *daemon) stop() {
	if d.Client != nil {
		_ = d.Close() // of a connection that has served its purpose
	}
	d.tool.interrupt()
}

// freeAddress is one on the loopback interface where nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start implements starter over the network.
func (d *daemon) start(ctx context.Context, spec session.Spec) (started, error) {
	begun := time.Now()
	s, err := d.Start(ctx, spec)
	if err != nil {
		return started{}, err
	}
	out := started{on: time.Since(begun)}
	p, err := d.profileOf(ctx, s.ID)
	if err != nil {
		return out, err
	}
	out.first = p.Meta.FirstSample.Sub(begun)
	return out, nil
}

// profileOf waits for the end of a session.
func (d *daemon) profileOf(ctx context.Context, id session.ID) (*profile.Profile, error) {
	for s, err := range d.Watch(ctx, id) {
		if err != nil {
			return nil, err
		}
		if s.Err != nil {
			return nil, s.Err
		}
	}
	c, err := d.Fetch(ctx, id, session.Want{})
	if err != nil {
		return nil, err
	}
	defer c.Body.Close()
	return pprof.Read(c.Body)
}

// requestID is another one each time: what is asked for is always the same.
func requestID() string {
	return strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
}
