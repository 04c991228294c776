// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// node is a value with its place in the file.
type node struct {
	offset  int
	value   any // string, bool, json.Number, nil; json.Delim of an object or a list
	members []member
	list    []*node
}

type member struct {
	key    string
	offset int
	node   *node
}

// kind says what kind of value it is, for people: without text, which may be a
// secret in the wrong place.
func (n *node) kind() string {
	if _, ok := n.value.(string); ok {
		return "text"
	}
	return n.what()
}

// what is kind with the text.
func (n *node) what() string {
	switch v := n.value.(type) {
	case string:
		return fmt.Sprintf("the text %q", v)
	case bool:
		return fmt.Sprint(v)
	case json.Number:
		return "the number " + v.String()
	case json.Delim:
		if v == '{' {
			return "an object"
		}
		return "a list"
	}
	return "null"
}

// parser makes nodes from the tokens of encoding/json, whose offsets it needs.
type parser struct {
	p *problems
	d *json.Decoder
}

// parse reads all of the file. What is not JSON is an error; keys that are
// there twice are collected.
func parse(p *problems) (*node, error) {
	root, err := parseValue(p, "")
	if err == nil && root.value != json.Delim('{') {
		err = p.at(root.offset, "", "there is "+root.what()+" where the configuration should be", "it is one object: { … }")
	}
	return root, err
}

// parseValue reads one value of any kind.
func parseValue(p *problems, key string) (*node, error) {
	var any json.RawMessage
	if err := json.Unmarshal(p.text, &any); err != nil {
		return nil, syntaxError(p, err)
	}
	d := json.NewDecoder(bytes.NewReader(p.text))
	d.UseNumber()
	r := parser{p, d}
	return r.value(0, key)
}

func syntaxError(p *problems, err error) error {
	var s *json.SyntaxError
	if !errors.As(err, &s) {
		return p.whole("the file is not JSON", err.Error())
	}
	offset := max(int(s.Offset)-1, 0)
	remedy := ""
	rest := string(p.text[min(offset, len(p.text)):])
	switch {
	case strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "#"):
		remedy = "JSON has no comments"
	case strings.HasPrefix(rest, "}") || strings.HasPrefix(rest, "]"):
		remedy = "there is a comma too many before it"
	case strings.Contains(s.Error(), "after top-level value"):
		remedy = "the configuration is one object"
	case strings.Contains(s.Error(), "after object key:value pair"), strings.Contains(s.Error(), "after array element"):
		remedy = "a comma may be missing before it"
	case strings.Contains(s.Error(), "unexpected end"):
		remedy, offset = "a bracket may be missing at the end", len(p.text)
	}
	return p.at(offset, "", "this is not JSON: "+s.Error(), remedy)
}

// next is a token and where it begins.
func (r *parser) next() (json.Token, int, error) {
	from := int(r.d.InputOffset())
	for from < len(r.p.text) && strings.IndexByte(" \t\r\n,:", r.p.text[from]) >= 0 {
		from++
	}
	t, err := r.d.Token()
	return t, from, err
}

func (r *parser) value(depth int, key string) (*node, error) {
	t, offset, err := r.next()
	if err != nil {
		return nil, syntaxError(r.p, err)
	}
	n := &node{offset: offset, value: t}
	if depth == maxDepth {
		return nil, r.p.at(offset, key, fmt.Sprintf("there are more than %d objects or lists within one another", maxDepth), "a configuration is flatter")
	}
	switch t {
	case json.Delim('{'):
		err = r.object(n, depth, key)
	case json.Delim('['):
		err = r.array(n, depth, key)
	}
	return n, err
}

func (r *parser) object(n *node, depth int, path string) error {
	seen := map[string]bool{}
	for r.d.More() {
		t, offset, err := r.next()
		if err != nil {
			return syntaxError(r.p, err)
		}
		key := t.(string) // the file is JSON, so it is one
		full := join(path, key)
		if seen[key] {
			r.p.add(offset, full, fmt.Sprintf("%q is there twice", full), "one of them must go")
		}
		seen[key] = true
		v, err := r.value(depth+1, full)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key, offset, v})
	}
	return r.closing()
}

func (r *parser) array(n *node, depth int, path string) error {
	for i := 0; r.d.More(); i++ {
		v, err := r.value(depth+1, fmt.Sprintf("%s[%d]", path, i))
		if err != nil {
			return err
		}
		n.list = append(n.list, v)
	}
	return r.closing()
}

func (r *parser) closing() error {
	if _, err := r.d.Token(); err != nil {
		return syntaxError(r.p, err)
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
