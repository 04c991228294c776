// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// disk is one that can be full: then it takes room bytes more.
type disk struct {
	mu   sync.Mutex
	full bool
	room int
	text bytes.Buffer
	seen chan struct{} // a write was tried
}

func (d *disk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.seen <- struct{}{} }()
	if !d.full {
		return d.text.Write(b)
	}
	n := min(d.room, len(b))
	d.room -= n
	d.text.Write(b[:n])
	return n, syscall.ENOSPC
}

func (d *disk) set(full bool, room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.room = full, room
}

// A disk fills up in the middle of a line, stays full, and has room again:
// lines before and after are whole, and what was lost is told.
func TestOutletFullDisk(t *testing.T) {
	d := &disk{seen: make(chan struct{}, 100)}
	o := NewOutlet(d)
	o.Recovered = func(lines uint64, why error) { fmt.Fprintf(o, "lost %d: %v\n", lines, why) }
	line := func(text string) {
		fmt.Fprintln(o, text)
		<-d.seen
	}
	line("one")
	d.set(true, 2)
	line("two")
	line("three")
	if got := o.Lost(); got != 2 {
		t.Errorf("%d lines are lost", got)
	}
	d.set(false, 0)
	line("four")
	<-d.seen // the end of the cut line came before it
	<-d.seen // what was lost
	o.Close()
	want := "one\ntw\nfour\nlost 2: no space left on device\n"
	if got := d.text.String(); got != want || o.Lost() != 2 {
		t.Errorf("%q, %d lost, want %q", got, o.Lost(), want)
	}
}

// Nobody reads: lines are taken all the same, within bounds.
func TestOutletStuckReader(t *testing.T) {
	r, w := io.Pipe()
	o := NewOutlet(w)
	told := make(chan uint64, 10)
	o.Recovered = func(lines uint64, _ error) { told <- lines }
	line := strings.Repeat("x", 999) + "\n"
	const written = 5000
	for range written {
		if n, err := o.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	lost := o.Lost()
	if kept := written - lost; kept < 900 || kept > outletRoom/1000 {
		t.Errorf("%d of %d lines are lost", lost, written)
	}
	read := make(chan int)
	go func() {
		b, _ := io.ReadAll(r) // it ends when the pipe is closed
		read <- bytes.Count(b, []byte(line))
	}()
	if got := <-told; got != lost {
		t.Errorf("%d lost lines are told, of %d", got, lost)
	}
	o.Close()
	w.Close()
	if got := <-read; uint64(got) != written-lost {
		t.Errorf("%d lines arrive, %d were lost of %d", got, lost, written)
	}
	if n, err := o.Write([]byte(line)); n != len(line) || err != nil || o.Lost() != lost+1 {
		t.Errorf("after the end: %d %v, %d lost", n, err, o.Lost())
	}
}
