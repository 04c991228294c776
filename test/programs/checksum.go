// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"
)

// Checksum is a running checksum.c, which is ready and has not begun.
type Checksum struct {
	PID int

	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// Sum is what came of it.
type Sum struct {
	Sum       string
	CPU, Wall time.Duration
}

// NewChecksum starts what was built from checksum.c, for so many rounds.
func NewChecksum(path string, rounds int) (*Checksum, error) {
	c := &Checksum{command: exec.Command(path, strconv.Itoa(rounds))}
	in, err := c.command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	c.PID, c.in, c.out = c.command.Process.Pid, in, bufio.NewReader(out)
	if _, err := c.out.ReadString('\n'); err != nil {
		c.Stop()
		return nil, fmt.Errorf("start %s: it ended before it was ready: %w", path, err)
	}
	return c, nil
}

// Finish lets it work to its end.
func (c *Checksum) Finish() (s Sum, err error) {
	if _, err := c.in.Write([]byte("\n")); err != nil {
		return s, err
	}
	if _, err := fmt.Fscan(c.out, &s.Sum, (*int64)(&s.CPU), (*int64)(&s.Wall)); err != nil {
		return s, fmt.Errorf("read the checksum: %w", err)
	}
	return s, c.command.Wait()
}

// Stop ends it, if it has not ended.
func (c *Checksum) Stop() {
	_ = c.command.Process.Kill() // it may be gone
	_ = c.command.Wait()         // killed, or waited for already
}
