// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/proto" // it is what passCodec stands before
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
)

// serviceType is field 2 of StatusRequest and of ResultsRequest.
func serviceType(m remote.Raw) (of string, known bool) { return m.Text(2) }

// into reads a raw message into one of ours.
func into(r remote.Raw, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is no message", v)
	}
	if err := proto.Unmarshal(r, m); err != nil {
		return status.Errorf(codes.Internal, "the request cannot be read: %v", err)
	}
	return nil
}

// fork is monitoring.AgentService where one part of the checks is answered here,
// and the others somewhere else: it looks at the type of service that is asked
// for, before anything is decoded.
type fork struct {
	here *monitoringServer
	next *remote.Next // nil: nobody knows the other types
}

func (f *fork) isOurs(m remote.Raw) bool {
	of, known := serviceType(m)
	return known && f.here.checks(of)
}

// describe is the service as gRPC is told of it.
func (f *fork) describe() *grpc.ServiceDesc {
	service := monitoring.AgentService_ServiceDesc
	service.Methods, service.Streams = nil, nil
	for _, m := range monitoring.AgentService_ServiceDesc.Methods {
		if m.MethodName != "TriggerProfiling" { // which has no type: it is always ours
			m.Handler = f.unary(service.ServiceName, m)
		}
		service.Methods = append(service.Methods, m)
	}
	for _, s := range monitoring.AgentService_ServiceDesc.Streams {
		s.Handler = f.stream(s)
		service.Streams = append(service.Streams, s)
	}
	return &service
}

// unary is a method before the one of ours.
func (f *fork) unary(service string, m grpc.MethodDesc) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var in remote.Raw
		if err := decode(&in); err != nil {
			return nil, err
		}
		if f.isOurs(in) {
			return m.Handler(srv, ctx, func(v any) error { return into(in, v) }, interceptor)
		}
		answer := func(ctx context.Context, _ any) (any, error) { return f.elsewhere(ctx, service, m.MethodName, &in) }
		if interceptor == nil {
			return answer(ctx, nil)
		}
		return interceptor(ctx, &in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/" + m.MethodName}, answer)
	}
}

// elsewhere answers a call of a type that is not ours. Without a next agent it
// is what a real one says of types that it does not know.
func (f *fork) elsewhere(ctx context.Context, service, method string, in *remote.Raw) (any, error) {
	switch {
	case f.next != nil:
		return f.next.Invoke(ctx, "/"+service+"/"+method, in)
	case method == "GetStatus":
		return &monitoring.StatusResponse{}, nil
	}
	return nil, notSupported(method, *in)
}

func notSupported(method string, in remote.Raw) error {
	of, _ := serviceType(in)
	return status.Errorf(codes.Unimplemented, "%s not supported for service type '%.64s'", method, of)
}

// stream is the same of a method that answers in several messages.
func (f *fork) stream(s grpc.StreamDesc) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		var in remote.Raw
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		switch {
		case f.isOurs(in):
			return s.Handler(srv, &reread{ServerStream: stream, first: in})
		case f.next != nil:
			return f.next.Forward(stream, &in)
		}
		return notSupported(s.StreamName, in)
	}
}

// reread is a stream of which the one request was read already.
type reread struct {
	grpc.ServerStream
	first remote.Raw
	done  bool
}

// RecvMsg is of gRPC's interface.
func (r *reread) RecvMsg(m any) error {
	if r.done {
		return r.ServerStream.RecvMsg(m)
	}
	r.done = true
	return into(r.first, m)
}
