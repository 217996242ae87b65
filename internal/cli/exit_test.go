package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// TestClassify: each class of failure has its code, however often it is wrapped.
func TestClassify(t *testing.T) {
	dialed := func(p dial.Phase, err error) error { return &dial.Error{Phase: p, Address: "h:1", Err: err} }
	said := func(t packet.Type, r packet.Reason) error { return &client.ReasonError{Packet: t, Code: r} }
	for _, x := range []struct {
		err  error
		want int
	}{
		{errors.New("other"), exitFailure},
		{dialed(dial.DNS, &net.DNSError{Err: "no such host", IsNotFound: true}), exitName},
		{dialed(dial.DNS, context.DeadlineExceeded), exitName},
		{dialed(dial.TCP, syscall.ECONNREFUSED), exitNoConnection},
		{dialed(dial.TCP, context.DeadlineExceeded), exitNoConnection},
		{dialed(dial.TLS, x509.UnknownAuthorityError{}), exitTLS},
		{dialed(dial.TLS, io.EOF), exitTLS},
		{dialed(dial.WebSocket, &dial.StatusError{Code: 404}), exitWebSocket},
		{dialed(dial.TCP, context.Canceled), exitInterrupted},
		{said(packet.CONNACK, packet.NotAuthorized), exitNotAuthorized},
		{said(packet.CONNACK, packet.BadUserNameOrPassword), exitNotAuthorized},
		{said(packet.CONNACK, packet.UnsupportedProtocolVersion), exitRefused},
		{said(packet.CONNACK, packet.ServerUnavailable), exitRefused},
		{said(packet.PUBACK, packet.NotAuthorized), exitPublish},
		{said(packet.PUBREC, packet.QuotaExceeded), exitPublish},
		{said(packet.DISCONNECT, packet.NotAuthorized), exitNotAuthorized},
		{said(packet.DISCONNECT, packet.SessionTakenOver), exitLost},
		{said(packet.DISCONNECT, packet.ServerShuttingDown), exitLost},
		{said(packet.DISCONNECT, packet.ProtocolError), exitProtocol},
		{said(packet.DISCONNECT, packet.PacketTooLarge), exitLimit},
		{said(packet.DISCONNECT, packet.QoSNotSupported), exitUnsupported},
		{&client.SubscribeError{Packet: packet.SUBACK}, exitSubscribe},
		{client.ErrUnsupported, exitUnsupported},
		{client.ErrTooLong, exitLimit},
		{client.ErrQueueFull, exitLimit},
		{client.ErrKeepAlive, exitLost},
		{client.ErrNotConnected, exitLost},
		{io.EOF, exitLost},
		{io.ErrUnexpectedEOF, exitLost},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, exitLost},
		{&packet.Error{Code: packet.MalformedPacket}, exitProtocol},
		{context.DeadlineExceeded, exitTimeout},
		{context.Canceled, exitInterrupted},
		{errPipe, exitPipe},
		{misuse("try", "what"), exitUsage},
	} {
		err := failed(fmt.Errorf("outside: %w", x.err))
		var h *hinted
		if !errors.As(err, &h) || h.code != x.want {
			t.Errorf("%v: %+v, want %d", x.err, h, x.want)
		}
		if hasHint := h.hint != ""; hasHint == slices.Contains([]int{exitFailure, exitInterrupted, exitPipe}, x.want) {
			if x.want != exitName && x.want != exitTLS && x.want != exitNoConnection { // package dial's
				t.Errorf("%v: hint %q", x.err, h.hint)
			}
		}
	}
	if failed(nil) != nil {
		t.Error("no error failed")
	}
}

// TestExitCodes: the table has each code once, in order.
func TestExitCodes(t *testing.T) {
	last := -1
	for _, e := range exitCodes() {
		if e.code <= last || e.what == "" {
			t.Errorf("%d after %d: %q", e.code, last, e.what)
		}
		last = e.code
	}
}
