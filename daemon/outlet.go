// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// Outlet is between the log and where it goes: a disk that is full, or a reader
// who does not read, must not hold up the service. Lines wait in memory, in
// bounds; those for which there is no room, and those that cannot be written,
// are counted. It is safe for use by several goroutines.
type Outlet struct {
	to   io.Writer
	wake chan struct{} // has room for one: there are lines
	done chan struct{} // closed when the last was written

	mu      sync.Mutex
	lines   []byte // that wait
	writing int    // bytes of those on their way
	closed  bool
	lost    uint64 // lines, in all
	told    uint64 // of those, in a line of the log

	// Recovered is told, from a goroutine of the outlet, how many lines were
	// lost, when others can be written again. Set it before the first line.
	Recovered func(lines uint64, why error)
}

const (
	outletRoom = 1 << 20     // bytes that may wait
	lastLines  = time.Second // for what waits at the end
)

// NewOutlet is before a writer, which nothing else may use.
func NewOutlet(to io.Writer) *Outlet {
	o := &Outlet{to: to, wake: make(chan struct{}, 1), done: make(chan struct{}), Recovered: func(uint64, error) {}}
	go o.run()
	return o
}

// Write takes a line. It does not wait, and never fails.
func (o *Outlet) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.lines)+o.writing+len(line) > outletRoom {
		o.lost++
		return len(line), nil
	}
	o.lines = append(o.lines, line...)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// Lost is how many lines were lost.
func (o *Outlet) Lost() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// Close writes what waits, and gives up on it after a moment.
func (o *Outlet) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	close(o.wake)
	select {
	case <-o.done:
	case <-time.After(lastLines):
	}
}

// run writes. Nothing else does.
func (o *Outlet) run() {
	defer close(o.done)
	var last []byte // written already: its room is used again
	var why error   // why lines could not be written
	cut := false    // the last line was written in part
	for range o.wake {
		o.mu.Lock()
		lines := o.lines
		o.lines, o.writing = last[:0], len(lines)
		o.mu.Unlock()
		n, err := 0, error(nil)
		if cut { // what comes now is a line of its own
			_, err = o.to.Write([]byte("\n"))
			cut = err != nil
		}
		if err == nil {
			n, err = o.to.Write(lines)
		}
		cut = cut || n > 0 && lines[n-1] != '\n'
		if err != nil {
			why = err
		}
		o.wrote(lines, n, err, why)
		last = lines
	}
}

// wrote counts what was not, or tells of it when the rest was.
func (o *Outlet) wrote(lines []byte, n int, err, why error) {
	o.mu.Lock()
	o.writing = 0
	o.lost += uint64(bytes.Count(lines[n:], []byte("\n")))
	untold := o.lost - o.told
	if err == nil && untold > 0 {
		o.told = o.lost
	}
	o.mu.Unlock()
	if err == nil && untold > 0 {
		o.Recovered(untold, why)
	}
}
