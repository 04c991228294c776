// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// textGoesHere stands for the text while encoding/json encodes all else. As a
// key with its value it is nowhere else: within a text the quotes are escaped.
const textGoesHere = "\x00"

var whereTextGoes = []byte(`"folded":"\u0000"`)

// encoded is v as JSON, of which r is a part. The text, megabytes of it, goes
// straight to its place: encoding/json would have it three times in memory, and
// an agent is to be small.
func encoded(v any, r *results) ([]byte, error) {
	text := r.Folded
	if text == "" {
		return json.Marshal(v)
	}
	r.Folded = textGoesHere
	around, err := json.Marshal(v)
	r.Folded = text
	if err != nil {
		return nil, err
	}
	before, after, ok := bytes.Cut(around, whereTextGoes)
	if !ok {
		return nil, errors.New("there is no place for the text")
	}
	size := len(around)
	for line := range strings.Lines(text) {
		size += jsonSize(line)
	}
	data := append(make([]byte, 0, size), before...)
	data = append(data, `"folded":"`...)
	for line := range strings.Lines(text) {
		quoted, err := json.Marshal(line)
		if err != nil {
			return nil, err
		}
		data = append(data, quoted[1:len(quoted)-1]...)
	}
	return append(append(data, '"'), after...), nil
}
