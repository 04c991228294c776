// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bytes"
	"encoding/json"
)

// envelope is in what core gets the message of each service, but for those of
// type sync. The order of its keys is that of real pollers.
type envelope struct {
	PollerID    string          `json:"poller_id"`
	AgentID     string          `json:"agent_id"`
	Partition   string          `json:"partition"`
	ServiceType string          `json:"service_type"`
	ServiceName string          `json:"service_name"`
	Data        json.RawMessage `json:"data"`
}

// hostNames are by what core knows the host that a check is about.
type hostNames struct{ ip, name string }

// withHost makes sure that a message says which host it is about, as pollers do
// since October 2025: an object gets host_ip, ip, host_name and hostname, and
// its status too. What the checker itself says of it stays. An array is left
// alone. What is no object is put into one as its message: real pollers throw it
// away.
func withHost(message []byte, host hostNames) []byte {
	trimmed := bytes.TrimSpace(message)
	if len(trimmed) > 0 && trimmed[0] == '[' && json.Valid(trimmed) {
		return message
	}
	object := map[string]json.RawMessage{}
	switch {
	case len(trimmed) == 0, string(trimmed) == "null":
	case json.Valid(trimmed) && trimmed[0] == '{':
		if err := json.Unmarshal(trimmed, &object); err != nil {
			return message // it is valid, so this cannot be
		}
	case json.Valid(trimmed):
		object["message"] = trimmed
	default:
		object["message"] = quoted(string(message))
	}
	status := map[string]json.RawMessage{}
	if said := object["status"]; json.Unmarshal(said, &status) != nil || status == nil {
		if status = map[string]json.RawMessage{}; !isNothing(said) {
			object["status_text"] = said
		}
	}
	ip := firstOf(quoted(host.ip), object["host_ip"], object["ip"], status["host_ip"], status["ip"])
	name := firstOf(quoted(host.name), object["hostname"], object["host_name"], status["hostname"], status["host_name"])
	for _, in := range []map[string]json.RawMessage{object, status} {
		fillIn(in, "host_ip", "ip", ip)
		fillIn(in, "host_name", "hostname", name)
	}
	if len(status) > 0 || object["status"] != nil {
		object["status"] = marshaled(status)
	}
	return marshaled(object)
}

// fillIn fills those of two keys that are missing with what the other one says,
// or else with what is said elsewhere.
func fillIn(in map[string]json.RawMessage, one, other string, elsewhere json.RawMessage) {
	value := firstOf(elsewhere, in[one], in[other])
	for _, key := range []string{one, other} {
		if isNothing(in[key]) && !isNothing(value) {
			in[key] = value
		}
	}
}

// firstOf is the first of the values that says something, or the last resort.
func firstOf(lastResort json.RawMessage, values ...json.RawMessage) json.RawMessage {
	for _, v := range values {
		if !isNothing(v) {
			return v
		}
	}
	return lastResort
}

func isNothing(v json.RawMessage) bool {
	return len(v) == 0 || string(v) == "null" || string(v) == `""`
}

func quoted(text string) json.RawMessage { return marshaled(text) }

// marshaled is for what cannot fail: texts, and objects of what is JSON already.
func marshaled(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("checks: " + err.Error())
	}
	return b
}
