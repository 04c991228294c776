// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

// gone is a client that goes away without a word while it watches.
func (v *visitor) gone(ctx context.Context) error {
	c, err := v.service.client()
	if err != nil {
		return err
	}
	defer c.Close()
	spec := v.spec(v.anyBusy(), time.Minute)
	spec.Attended = true
	began, err := v.start(ctx, spec)
	if err != nil {
		return err
	}
	watching, cancel := context.WithTimeout(ctx, time.Duration(v.chance.Int64N(int64(300*time.Millisecond))))
	defer cancel()
	for _, err := range c.Watch(watching, began.ID) {
		if err != nil {
			break
		}
	}
	c.Close()
	return v.unattended(ctx, began.ID)
}

// unattended follows a session that nobody watches to its end, without watching
// it.
func (v *visitor) unattended(ctx context.Context, id session.ID) error {
	for {
		now, err := v.there.Get(ctx, id)
		if forgotten(err) {
			v.ended(v.name, "forgotten")
			return nil
		}
		if err != nil {
			return err
		}
		if now.State.Final() {
			return v.expect(now, nil, "canceled: unattended")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// clientKilled is a client that is killed at any moment.
func (v *visitor) clientKilled(ctx context.Context) error {
	requester := rand.Text()
	c := exec.Command(daemons.Path("srprof"), "record", "--server", v.service.address, "--cert-dir", v.service.dir, "--requester", requester,
		"--pid", strconv.Itoa(v.anyBusy().pid), "--duration", "1m", "--frequency", "499", "--output", "-")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return err
	}
	time.Sleep(time.Duration(v.chance.Int64N(int64(1500 * time.Millisecond))))
	if err := c.Process.Kill(); err != nil {
		return err
	}
	if err := c.Wait(); c.ProcessState.Exited() { // before it was killed
		return fmt.Errorf("srprof record: %w: %s", err, out.String())
	}
	all, err := v.there.List(ctx, session.Filter{})
	if err != nil {
		return err
	}
	for _, now := range all {
		if now.Spec.Requester == requester {
			v.saw(now.ID)
			return v.unattended(ctx, now.ID)
		}
	}
	v.ended(v.name, "killed before it asked")
	return nil
}

// stranger is somebody who connects and speaks no TLS.
func (v *visitor) stranger(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", v.service.address)
	if err != nil {
		return err
	}
	defer c.Close()
	noise := make([]byte, v.chance.IntN(300))
	for i := range noise {
		noise[i] = byte(v.chance.Uint32())
	}
	_, err = c.Write(noise)
	v.ended(v.name, "gone")
	return err
}

// another asks for a form that is made on demand, twice.
func (v *visitor) another(ctx context.Context) error {
	now, err := v.start(ctx, v.spec(v.anyBusy(), v.briefly()))
	if err == nil {
		now, err = v.until(ctx, now.ID)
	}
	if err := v.expect(now, err, "succeeded", noSamples); err != nil || now.State != session.StateSucceeded {
		return err
	}
	var digests [2]string
	for i := range digests {
		content, err := v.there.Fetch(ctx, now.ID, session.Want{Format: "svg"})
		if forgotten(err) {
			return nil
		}
		if err != nil {
			return err
		}
		digests[i] = content.Digest
		_, err = io.Copy(io.Discard, content.Body)
		content.Body.Close()
		if err != nil {
			return err
		}
	}
	if digests[0] != digests[1] {
		return errors.New("two pictures of one profile are not the same")
	}
	return nil
}
