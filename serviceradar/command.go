// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

// CommandType is the type of the commands that stand for TriggerProfiling in
// ServiceRadar's later ControlStream.
const CommandType = "profiler.start"

// CommandRequest, and what answers it, are the messages of ServiceRadar's
// ControlStream (2026), which are not in our *.proto: an agent of that time
// makes them of its own, field by field.
type CommandRequest struct {
	CommandID   string
	CommandType string
	PayloadJSON []byte
	TTLSeconds  int64
	CreatedAt   int64 // Unix seconds
}

// CommandAck says that a session waits or runs.
type CommandAck struct {
	CommandID, CommandType string
	Timestamp              int64
	Message                string
}

// CommandProgress says how far it is.
type CommandProgress struct {
	CommandID, CommandType string
	ProgressPercent        int32
	Message                string
	Timestamp              int64
	PayloadJSON            []byte
}

// CommandResult says how it ended, or why there is none.
type CommandResult struct {
	CommandID, CommandType string
	Success                bool
	Message                string
	PayloadJSON            []byte
	Timestamp              int64
}

// commandPayload is what has no field of its own in a CommandRequest.
type commandPayload struct {
	ProcessIDs      []int32 `json:"process_ids"`
	Children        bool    `json:"children,omitempty"`
	DurationSeconds int32   `json:"duration_seconds,omitempty"`
	Frequency       int32   `json:"frequency,omitempty"`
	Requester       string  `json:"requester,omitempty"`
	AgentID         string  `json:"agent_id,omitempty"`
	PollerID        string  `json:"poller_id,omitempty"`
}

// resultPayload is what has none in the answers.
type resultPayload struct {
	SessionID string          `json:"session_id,omitempty"`
	State     string          `json:"state"`
	Success   bool            `json:"success"`
	Percent   int32           `json:"progress_percent,omitempty"`
	ErrorCode string          `json:"error_code,omitempty"`
	AgentID   string          `json:"agent_id,omitempty"`
	PollerID  string          `json:"poller_id,omitempty"`
	Payload   json.RawMessage `json:"payload,omitempty"`
}

// CommandOf is the command that says what a request does.
func CommandOf(in *monitoring.TriggerProfilingRequest) (*CommandRequest, error) {
	payload, err := json.Marshal(commandPayload{in.GetProcessIds(), in.GetChildren(), in.GetDurationSeconds(), in.GetFrequency(),
		in.GetRequester(), in.GetAgentId(), in.GetPollerId()})
	if err != nil {
		return nil, err
	}
	return &CommandRequest{CommandID: in.GetRequestId(), CommandType: CommandType, PayloadJSON: payload, TTLSeconds: in.GetTtlSeconds(), CreatedAt: in.GetCreatedAt()}, nil
}

// TriggerOf is the request that does what a command says.
func TriggerOf(c *CommandRequest) (*monitoring.TriggerProfilingRequest, error) {
	if c.CommandType != CommandType {
		return nil, fmt.Errorf("a command of type %.64q is not %s", c.CommandType, CommandType)
	}
	var p commandPayload
	in := json.NewDecoder(bytes.NewReader(c.PayloadJSON))
	in.DisallowUnknownFields()
	if err := in.Decode(&p); err != nil {
		return nil, fmt.Errorf("read the payload of command %.64q: %w", c.CommandID, err)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the payload of command %.64q goes on after the object", c.CommandID)
	}
	return &monitoring.TriggerProfilingRequest{
		RequestId: c.CommandID, ProcessIds: p.ProcessIDs, Children: p.Children, DurationSeconds: p.DurationSeconds, Frequency: p.Frequency,
		Requester: p.Requester, TtlSeconds: c.TTLSeconds, CreatedAt: c.CreatedAt, AgentId: p.AgentID, PollerId: p.PollerID,
	}, nil
}

// AckOf acknowledges what waits or runs.
func AckOf(out *monitoring.TriggerProfilingResponse) *CommandAck {
	return &CommandAck{out.GetRequestId(), CommandType, out.GetTimestamp(), out.GetMessage()}
}

// ProgressOf is an answer as progress, ResultOf one as result.
func ProgressOf(out *monitoring.TriggerProfilingResponse) (*CommandProgress, error) {
	payload, err := payloadOf(out)
	return &CommandProgress{out.GetRequestId(), CommandType, out.GetProgressPercent(), out.GetMessage(), out.GetTimestamp(), payload}, err
}

// ResultOf is for answers that are final: there is no session, or it has ended.
func ResultOf(out *monitoring.TriggerProfilingResponse) (*CommandResult, error) {
	payload, err := payloadOf(out)
	return &CommandResult{out.GetRequestId(), CommandType, out.GetSuccess(), out.GetMessage(), payload, out.GetTimestamp()}, err
}

// Final says that nothing comes after an answer.
func Final(out *monitoring.TriggerProfilingResponse) bool {
	return out.GetState() != monitoring.TriggerProfilingResponse_PENDING && out.GetState() != monitoring.TriggerProfilingResponse_RUNNING
}

func payloadOf(out *monitoring.TriggerProfilingResponse) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the payload stays as it is
	err := e.Encode(resultPayload{out.GetSessionId(), out.GetState().String(), out.GetSuccess(), out.GetProgressPercent(), out.GetErrorCode(),
		out.GetAgentId(), out.GetPollerId(), out.GetPayloadJson()})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Trigger is the answer that was made into progress.
func (c *CommandProgress) Trigger() (*monitoring.TriggerProfilingResponse, error) {
	return answerOf(c.CommandID, c.Message, c.Timestamp, c.PayloadJSON)
}

// Trigger is the answer that was made into a result.
func (c *CommandResult) Trigger() (*monitoring.TriggerProfilingResponse, error) {
	return answerOf(c.CommandID, c.Message, c.Timestamp, c.PayloadJSON)
}

func answerOf(id, message string, timestamp int64, payload []byte) (*monitoring.TriggerProfilingResponse, error) {
	var p resultPayload
	if err := json.Unmarshal(payload, &p); err != nil {
		return nil, fmt.Errorf("read what command %.64q was answered: %w", id, err)
	}
	state, ok := monitoring.TriggerProfilingResponse_State_value[p.State]
	if !ok {
		return nil, fmt.Errorf("command %.64q is in the unknown state %.64q", id, p.State)
	}
	return &monitoring.TriggerProfilingResponse{
		RequestId: id, SessionId: p.SessionID, State: monitoring.TriggerProfilingResponse_State(state), Success: p.Success, Message: message, ErrorCode: p.ErrorCode,
		ProgressPercent: p.Percent, Timestamp: timestamp, PayloadJson: p.Payload, AgentId: p.AgentID, PollerId: p.PollerID,
	}, nil
}
