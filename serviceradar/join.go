// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
)

// union puts the chunks of one answer to StreamResults together, as real
// pollers do since 20 August 2025: each is a JSON array, or an object with an
// array hosts, and the elements of all make one array. Elements stay as they
// are, byte for byte.
type union struct {
	// keepsObject makes an object of it again, with the keys of the first chunk
	// besides hosts: so it is with sweeps.
	keepsObject bool

	elements []json.RawMessage
	others   map[string]json.RawMessage // of the first chunk; nil: it was an array
	chunks   int
	size     int
	empty    bool // the first chunk was {}
}

var (
	errNoHosts  = errors.New("no hosts field found in chunk data")
	errNotArray = errors.New("hosts field is not an array in chunk data")
	errNoFinal  = errors.New("stream completed without a final chunk")
)

func (j *union) add(data []byte) error {
	j.chunks++
	if j.size += len(data); j.size > maxStreamed {
		return fmt.Errorf("the chunks are larger than %d MiB together", maxStreamed>>20)
	}
	if len(data) == 0 {
		return nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(data, &list)
	if err == nil {
		j.elements = append(j.elements, list...)
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return fmt.Errorf("failed to parse chunk data: %w", err)
	}
	if len(object) == 0 && j.chunks == 1 { // so agents say that nothing is new
		j.empty, j.others = true, object
		return nil
	}
	hosts, ok := object["hosts"]
	if !ok {
		return errNoHosts
	}
	if hosts = bytes.TrimSpace(hosts); len(hosts) == 0 || hosts[0] != '[' || json.Unmarshal(hosts, &list) != nil {
		return errNotArray
	}
	delete(object, "hosts")
	if j.chunks == 1 {
		j.others = object
	}
	j.elements = append(j.elements, list...)
	return nil
}

// nothing says that the agent has nothing new.
func (j *union) nothing() bool { return j.empty && len(j.elements) == 0 }

func (j *union) message() ([]byte, error) {
	elements := j.elements
	if elements == nil {
		elements = []json.RawMessage{}
	}
	if !j.keepsObject || j.others == nil {
		return json.Marshal(elements)
	}
	list, err := json.Marshal(elements)
	if err != nil {
		return nil, err
	}
	object := maps.Clone(j.others)
	object["hosts"] = list
	return json.Marshal(object)
}

// broken is the error of a stream that ended before its last chunk.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return errNoFinal
	}
	return fmt.Errorf("failed to receive chunk: %w", saidByGRPC(err))
}
