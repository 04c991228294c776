// SPDX-License-Identifier: Apache-2.0

package process

import (
	"strings"
	"testing"
)

// Paths as the runtimes make them, with other IDs.
func TestContainer(t *testing.T) {
	a, b := strings.Repeat("0123456789abcdef", 4), strings.Repeat("f", 64)
	for path, want := range map[string]string{
		"/docker/" + a:                         a,
		"/system.slice/docker-" + a + ".scope": a,
		"/docker/" + a + "/init.scope":         a,
		"/kubepods/burstable/pod1b2c/" + a:     a,
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1b.slice/cri-containerd-" + a + ".scope": a,
		"/system.slice/containerd.service/kubepods-pod1b.slice:cri-containerd:" + a:                                a,
		"/kubepods.slice/kubepods-pod1b.slice/crio-" + a + ".scope":                                                a,
		"/kubepods.slice/kubepods-pod1b.slice/crio-" + a + ".scope/container":                                      a,
		"/kubepods.slice/kubepods-pod1b.slice/crio-conmon-" + a + ".scope":                                         "",
		"/machine.slice/libpod-" + a + ".scope/container":                                                          a,
		"/machine.slice/libpod-conmon-" + a + ".scope":                                                             "",
		"/libpod_parent/libpod-" + a:                                                                               a,
		"/system.slice/shop.service/libpod-payload-" + a:                                                           a,
		"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + a + ".scope/container":                a,
		"/default/" + a:                                 a, // containerd's own, namespace before ID
		"/system.slice/nerdctl-" + a + ".scope":         a,
		"/docker/" + a + "/kubelet/kubepods/pod1b/" + b: b, // of one in another
		"/system.slice/docker-" + a + ".scope/kubelet.slice/kubelet-kubepods.slice/cri-containerd-" + b + ".scope": b,
		"/../docker-" + a + ".scope": a, // seen from another cgroup namespace
		"/":                          "", "": "", "/system.slice/nginx.service": "", "/user.slice/user-1000.slice/session-1.scope": "",
		"/docker/" + a[1:]:                       "",
		"/docker/0" + a:                          "", // no dash before it
		"/docker/" + strings.ToUpper(a):          "",
		"/machine.slice/machine-debian.scope":    "",
		"/docker/buildkit/x7yc2ytg5bm4k4gcyvcyf": "",
	} {
		if got := Container(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// Whatever a path is, what is found in it is an ID, and stands there.
func FuzzContainer(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{"/", "/docker/" + id, "/a/crio-conmon-" + id + ".scope", "x:y:" + id, "//" + id + "//", id[:63] + "/" + id, "\x00-" + id} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		id := Container(path)
		if id == "" {
			return
		}
		if len(id) != containerID || strings.Trim(id, "0123456789abcdef") != "" || !strings.Contains(path, id) {
			t.Errorf("%q has the ID %q", path, id)
		}
		if inner := Container(path + "/" + id); inner != id {
			t.Errorf("%q: with the ID below it: %q", path, inner)
		}
	})
}
