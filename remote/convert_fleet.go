// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"maps"
	"slices"

	"github.com/carverauto/serviceradar-profiler/profile"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

func selectorMessage(s *session.Selector) *sessionv1.Selector {
	if s.Empty() {
		return nil
	}
	return &sessionv1.Selector{Name: Text(s.Name), Unit: Text(s.Unit), Container: Text(s.Container), Cgroup: Text(s.Cgroup), Hottest: s.Hottest}
}

func selectorOf(m *sessionv1.Selector) session.Selector {
	return session.Selector{Name: m.GetName(), Unit: m.GetUnit(), Container: m.GetContainer(), Cgroup: m.GetCgroup(), Hottest: m.GetHottest()}
}

func hostsMessage(h *session.Hosts) *sessionv1.Hosts {
	if h.Empty() {
		return nil
	}
	m := &sessionv1.Hosts{Labels: Text(h.Labels), All: h.All, Most: int32Of(h.Most)}
	for _, name := range h.Names {
		m.Names = append(m.Names, Text(name))
	}
	return m
}

func hostsOf(m *sessionv1.Hosts) session.Hosts {
	return session.Hosts{Names: slices.Clone(m.GetNames()), Labels: m.GetLabels(), All: m.GetAll(), Most: int(m.GetMost())}
}

func hostRunMessage(h *session.HostRun) *sessionv1.HostRun {
	m := &sessionv1.HostRun{
		Host: Text(h.Host), Id: Text(string(h.ID)), State: stateMessages[h.State], Waiting: Short(h.Waiting), Position: int32Of(h.Position),
		Started: timeMessage(h.Started), Ended: timeMessage(h.Ended), Targets: targetMessages(h.Targets), Progress: progressMessage(&h.Progress),
		EndedBy: Text(string(h.EndedBy)), Size: h.Size, Digest: Text(h.Digest),
	}
	if h.Err != nil {
		m.Error = errorMessage(h.Err)
	}
	return m
}

func hostRunOf(m *sessionv1.HostRun) session.HostRun {
	h := session.HostRun{
		Host: m.GetHost(), ID: session.ID(m.GetId()), State: stateOf(m.GetState()), Waiting: m.GetWaiting(), Position: int(m.GetPosition()),
		Started: timeOf(m.GetStarted()), Ended: timeOf(m.GetEnded()), Targets: targetsOf(m.GetTargets()), Progress: progressOf(m.GetProgress()),
		EndedBy: profile.Ended(m.GetEndedBy()), Size: m.GetSize(), Digest: m.GetDigest(),
	}
	if m.GetError() != nil {
		h.Err = errorOf(m.GetError())
	}
	return h
}

var hostStates = map[session.HostState]sessionv1.HostState{
	session.HostUnknown:     sessionv1.HostState_HOST_STATE_UNSPECIFIED,
	session.HostReady:       sessionv1.HostState_HOST_STATE_READY,
	session.HostUnhealthy:   sessionv1.HostState_HOST_STATE_UNHEALTHY,
	session.HostAway:        sessionv1.HostState_HOST_STATE_AWAY,
	session.HostUnsupported: sessionv1.HostState_HOST_STATE_NO_PROFILING,
}

// hostStateOf is unknown for a state that only a newer server knows.
func hostStateOf(m sessionv1.HostState) session.HostState {
	for s, message := range hostStates {
		if message == m {
			return s
		}
	}
	return session.HostUnknown
}

func hostMessage(h *session.Host) *sessionv1.Host {
	m := &sessionv1.Host{
		Name: Text(h.Name), Address: Text(h.Address), State: hostStates[h.State], Since: timeMessage(h.Since), Version: Text(h.Version),
		Running: int32Of(h.Running), Queued: int32Of(h.Queued), Instance: Text(h.Instance),
	}
	if len(h.Labels) > 0 {
		m.Labels = map[string]string{}
		for key, value := range h.Labels {
			m.Labels[Text(key)] = Text(value)
		}
	}
	if h.Err != nil {
		m.Error = errorMessage(h.Err)
	}
	return m
}

func hostOf(m *sessionv1.Host) session.Host {
	h := session.Host{
		Name: m.GetName(), Address: m.GetAddress(), Labels: maps.Clone(m.GetLabels()), State: hostStateOf(m.GetState()), Since: timeOf(m.GetSince()),
		Version: m.GetVersion(), Running: int(m.GetRunning()), Queued: int(m.GetQueued()), Instance: m.GetInstance(),
	}
	if m.GetError() != nil {
		h.Err = errorOf(m.GetError())
	}
	return h
}

func processMessage(p *session.Process) *sessionv1.Process {
	return &sessionv1.Process{
		Pid: int32Of(p.PID), Name: Text(p.Name), Command: Text(p.Command), User: Text(p.User), Unit: Text(p.Unit), Container: Text(p.Container),
		Cgroup: Text(p.Cgroup), Cpu: p.CPU, MemoryBytes: p.Memory, Threads: int32Of(p.Threads), Started: timeMessage(p.Started),
	}
}

func processOf(m *sessionv1.Process) session.Process {
	return session.Process{
		PID: int(m.GetPid()), Name: m.GetName(), Command: m.GetCommand(), User: m.GetUser(), Unit: m.GetUnit(), Container: m.GetContainer(),
		Cgroup: m.GetCgroup(), CPU: m.GetCpu(), Memory: m.GetMemoryBytes(), Threads: int(m.GetThreads()), Started: timeOf(m.GetStarted()),
	}
}

func matchMessage(h *session.Match) *sessionv1.HostMatch {
	m := &sessionv1.HostMatch{Host: Text(h.Host), Pids: pidMessages(h.PIDs)}
	if h.Err != nil {
		m.Error = errorMessage(h.Err)
	}
	return m
}

func matchOf(m *sessionv1.HostMatch) session.Match {
	h := session.Match{Host: m.GetHost(), PIDs: pidsOf(m.GetPids())}
	if m.GetError() != nil {
		h.Err = errorOf(m.GetError())
	}
	return h
}
