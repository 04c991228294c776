// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is hosts of their own, as network namespaces, with a network between
// them that loses, delays, doubles and reorders packets as it is told to. Each
// namespace has one TUN device (Documentation/networking/tuntap.rst of Linux),
// and this process carries the packets: what netem would do in the kernel, on
// kernels that were built without it.
type network struct {
	mu    sync.Mutex
	nodes map[[4]byte]*node
}

// node is one namespace: a host.
type node struct {
	name, address string
	net           *network
	tun           *os.File
	weather       weather // of what comes in and goes out; under the network's lock
}

// weather is what happens to the packets of a node, each way.
type weather struct {
	cut            bool
	cutAfter       int // bytes; 0: never
	delay          time.Duration
	lose, double   float64       // shares of packets
	shuffle        time.Duration // packets are held back by up to that, each by another time
	carried, fated int           // packets so far: carried, and lost on purpose
}

func newNetwork() *network { return &network{nodes: map[[4]byte]*node{}} }

var created atomic.Int32 // nodes so far, in all tests

// add makes a host: namespace, device, and a hostname for what runs there.
func (n *network) add(t testing.TB, name string) *node {
	t.Helper()
	number := created.Add(1)
	address := [4]byte{10, 213, byte(number >> 8), byte(number)}
	d := &node{name: name, address: fmt.Sprintf("%d.%d.%d.%d", address[0], address[1], address[2], address[3]), net: n}
	space := d.space()
	run(t, "ip", "netns", "add", space)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", space) })
	tun, err := tunIn("/run/netns/" + space)
	if err != nil {
		t.Fatal(err)
	}
	d.tun = tun
	t.Cleanup(func() { tun.Close() })
	for _, line := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", d.address + "/16", "dev", "wire"},
		{"link", "set", "wire", "up"},
	} {
		run(t, "ip", append([]string{"-n", space}, line...)...)
	}
	n.mu.Lock()
	n.nodes[address] = d
	n.mu.Unlock()
	go d.carry()
	return d
}

// space is unique on this machine, so that two runs do not meet.
func (d *node) space() string {
	return fmt.Sprintf("srprof-%d-%s-%s", os.Getpid(), d.name, d.address[7:])
}

// tunIn opens a TUN device in a namespace.
func tunIn(space string) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	out := make(chan opened)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f, err := openTun(space)
		out <- opened{f, err}
	}()
	o := <-out
	return o.f, o.err
}

func openTun(space string) (*os.File, error) {
	at, err := os.Open(space)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if err := unix.Setns(int(at.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", space, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq("wire")
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

// carry takes what the node sends to where it is sent.
func (d *node) carry() {
	buffer := make([]byte, 64<<10)
	for {
		size, err := d.tun.Read(buffer)
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return
			}
			continue // the link is down
		}
		packet := buffer[:size]
		if size < 20 || packet[0]>>4 != 4 { // IPv4, RFC 791 section 3.1
			continue
		}
		d.net.send(d, packet)
	}
}

func (n *network) send(from *node, packet []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.nodes[[4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(packet[16:20])))]
	if to == nil {
		return
	}
	delay, copies := time.Duration(0), 1
	for _, d := range []*node{from, to} {
		w := &d.weather
		if w.cut || rand.Float64() < w.lose {
			w.fated++
			return
		}
		w.carried++
		if w.cutAfter > 0 {
			if w.cutAfter -= len(packet); w.cutAfter <= 0 {
				w.cutAfter, w.cut = 0, true
			}
		}
		delay += w.delay
		if w.shuffle > 0 {
			delay += rand.N(w.shuffle)
		}
		if rand.Float64() < w.double {
			copies++
		}
	}
	for range copies {
		own := append([]byte(nil), packet...)
		deliver := func() { _, _ = to.tun.Write(own) } // what a node that is down does not take is lost, as on a wire
		if delay == 0 {
			deliver()
		} else {
			time.AfterFunc(delay, deliver)
		}
	}
}

// set changes the weather at a node.
func (d *node) set(change func(*weather)) {
	d.net.mu.Lock()
	defer d.net.mu.Unlock()
	change(&d.weather)
}

// isCut says whether nothing is carried any more.
func (d *node) isCut() (cut bool) {
	d.set(func(w *weather) { cut = w.cut })
	return cut
}

// count is how many packets were carried, and lost on purpose, since it was
// last asked.
func (d *node) count() (carried, fated int) {
	d.set(func(w *weather) {
		carried, fated = w.carried, w.fated
		w.carried, w.fated = 0, 0
	})
	return carried, fated
}

// inside makes a command run on the node: in its network, and under its name.
// The rest is this machine's, its processes above all.
func (d *node) inside(c *exec.Cmd) {
	path := c.Path
	c.Args = append([]string{"nsenter", "--net=/run/netns/" + d.space(), "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, d.name, path}, c.Args[1:]...)
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		c.Err = err
		return
	}
	c.Path = nsenter
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// The network itself: what is sent arrives, what is cut does not, and what is
// lost is lost in the share that was asked for.
func TestNetwork(t *testing.T) {
	n := newNetwork()
	a, b := n.add(t, "a"), n.add(t, "b")
	ping := func(more ...string) error {
		c := exec.Command("ping", append([]string{"-q", b.address}, more...)...)
		a.inside(c)
		return c.Run()
	}
	if err := ping("-c", "3", "-i", "0.05", "-W", "10"); err != nil {
		t.Fatalf("nothing arrives: %v", err)
	}
	b.set(func(w *weather) { w.cut = true })
	if err := ping("-c", "1", "-W", "1"); err == nil {
		t.Error("a packet came through a cut")
	}
	b.set(func(w *weather) { *w = weather{lose: 0.5, double: 0.2, shuffle: 10 * time.Millisecond} })
	_ = ping("-c", "200", "-i", "0.002", "-W", "1") // some are lost
	if carried, fated := b.count(); carried < 50 || fated < 50 {
		t.Errorf("%d packets carried and %d lost", carried, fated)
	}
	b.set(func(w *weather) { *w = weather{delay: 150 * time.Millisecond} })
	began := time.Now()
	if err := ping("-c", "1", "-W", "10"); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("there and back through a slow network in %v: %v", time.Since(began), err)
	}
}
