// SPDX-License-Identifier: Apache-2.0

package process

import "strings"

// containerID is how long the IDs of containers are: SHA-256 in lower-case
// hexadecimal, in all runtimes that number theirs.
const containerID = 64

// Container is the ID of the container that a group belongs to, "" if to none:
// of one in another, that of the inner one. The forms are those of
//
//	docker             /docker/ID, /system.slice/docker-ID.scope
//	containerd (CRI)   /kubepods/…/podUID/ID, …/cri-containerd-ID.scope, …slice:cri-containerd:ID
//	CRI-O              …/crio-ID.scope
//	podman             /libpod_parent/libpod-ID, …/libpod-ID.scope/container, …/libpod-payload-ID
//
// and of what builds on them. What watches over a container (conmon) is in a
// group of the same ID, and not in the container.
func Container(path string) string {
	for path != "" {
		rest, part := "", path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			rest, part = path[:i], path[i+1:]
		}
		if id := containerOf(part); id != "" {
			return id
		}
		path = rest
	}
	return ""
}

// containerOf finds an ID in the name of one group.
func containerOf(name string) string {
	if i := strings.LastIndexByte(name, ':'); i >= 0 { // names of systemd, used without it
		name = name[i+1:]
	}
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < containerID {
		return ""
	}
	runtime, id := name[:len(name)-containerID], name[len(name)-containerID:]
	if runtime != "" && !strings.HasSuffix(runtime, "-") || strings.HasSuffix(runtime, "conmon-") {
		return ""
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return id
}
