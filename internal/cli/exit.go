package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// Exit codes. Where Mosquitto's clients have a code for a class of failure it
// is the same.
const (
	exitOK            = 0
	exitFailure       = 1
	exitUsage         = 2
	exitNoConnection  = 4
	exitRefused       = 5
	exitWebSocket     = 6
	exitLost          = 7
	exitTLS           = 8
	exitLimit         = 9
	exitUnsupported   = 10
	exitNotAuthorized = 11
	exitPublish       = 12
	exitSubscribe     = 13
	exitProtocol      = 14
	exitName          = 15
	exitTimeout       = 27
	exitInterrupted   = 130
	exitPipe          = 141
)

// exitCode is a row of the table of exit codes.
type exitCode struct {
	code int
	what string
}

// exitCodes is the table of exit codes, for people.
func exitCodes() []exitCode {
	return []exitCode{
		{exitOK, "done"},
		{exitFailure, "a failure that has no code of its own, such as a file that cannot be read, or a promise that was not kept"},
		{exitUsage, "the command line, the environment or the client configuration file was not understood"},
		{exitNoConnection, "no connection: nobody listens there, or it cannot be reached"},
		{exitRefused, "the server refused the connection, for another reason than who asks"},
		{exitWebSocket, "the server did not make a WebSocket of the connection"},
		{exitLost, "the connection was lost, or the server ended it"},
		{exitTLS, "TLS failed: a certificate that is not trusted, a wrong name, no common version"},
		{exitLimit, "a limit was reached: a message that is too long, a quota, a full queue"},
		{exitUnsupported, "the server has no such thing: a quality of service, retained messages, a kind of subscription"},
		{exitNotAuthorized, "not authorised: a wrong user name or password, or a client that the server does not let in"},
		{exitPublish, "the server refused a message"},
		{exitSubscribe, "the server refused a subscription"},
		{exitProtocol, "one side sent what the protocol does not allow"},
		{exitName, "the server's name was not found"},
		{exitTimeout, "the time given with -W passed, or the server did not answer in time"},
		{exitInterrupted, "SIGINT or SIGTERM came before it was done"},
		{exitPipe, "who read standard output is gone; nothing is printed"},
	}
}

// errPipe is a write to a standard output that nobody reads any more.
var errPipe = errors.New("standard output is closed")

// failed gives an error of a client command its exit code and what to try. It
// is the only place that does.
func failed(err error) error {
	var h *hinted
	if err == nil || errors.As(err, &h) {
		return err
	}
	code, hint := classify(err)
	return &hinted{err: err, hint: hint, code: code}
}

// classify finds the class of a failure. What the server said counts before how
// the connection ended, and that before the time that passed meanwhile.
func classify(err error) (code int, hint string) {
	var refused *client.ReasonError
	var subs *client.SubscribeError
	var malformed *packet.Error
	switch {
	case errors.Is(err, errPipe):
		return exitPipe, ""
	case errors.As(err, &subs):
		return exitSubscribe, "check the filter and what this user may read"
	case errors.As(err, &refused):
		return classifyReason(refused)
	case errors.Is(err, client.ErrUnsupported):
		return exitUnsupported, "`myelin check URL` shows what this server can do"
	case errors.Is(err, client.ErrTooLong):
		return exitLimit, "send a shorter message, or have the server take longer ones"
	case errors.Is(err, client.ErrQueueFull), errors.Is(err, client.ErrDropped):
		return exitLimit, "send more slowly"
	case errors.Is(err, client.ErrKeepAlive):
		return exitLost, "the network may have cut the connection; a smaller -k finds out sooner"
	case errors.As(err, &malformed):
		return exitProtocol, "check that an MQTT server is behind this address and port"
	case errors.Is(err, context.Canceled):
		return exitInterrupted, ""
	}
	if code, hint := classifyDial(err); code != 0 {
		return code, hint
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout, "give it longer with -W, or see with -d what it waits for"
	case errors.Is(err, client.ErrNotConnected), errors.Is(err, client.ErrClosed), errors.Is(err, client.ErrSessionLost), errors.Is(err, net.ErrClosed), ended(err):
		return exitLost, "the server's log may say why; -d shows the packets before it"
	}
	return exitFailure, ""
}

// ended tells the errors of a connection that its other end closed.
func ended(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || strings.HasSuffix(err.Error(), "EOF")
}

// classifyReason reads a refusal: the packet says what was refused, the code why.
func classifyReason(e *client.ReasonError) (code int, hint string) {
	who := e.Code == packet.BadUserNameOrPassword || e.Code == packet.NotAuthorized || e.Code == packet.Banned || e.Code == packet.BadAuthenticationMethod
	switch e.Packet {
	case packet.PUBACK, packet.PUBREC, packet.PUBCOMP:
		return exitPublish, publishHint(e.Code)
	case packet.SUBACK, packet.UNSUBACK:
		return exitSubscribe, "check the filter and what this user may read"
	case packet.CONNACK, packet.AUTH:
		switch {
		case who:
			return exitNotAuthorized, "check the user name (-u) and the password (--password-file or MYELIN_PASSWORD)"
		case e.Code == packet.UnsupportedProtocolVersion:
			return exitRefused, "ask for another version with -V 311 or -V 5"
		case e.Code == packet.ClientIdentifierNotValid:
			return exitRefused, "name another client with -i"
		case e.Server != "":
			return exitRefused, "connect to " + e.Server + " instead"
		}
		return exitRefused, "the server's log may say why"
	}
	switch e.Code {
	case packet.SessionTakenOver:
		return exitLost, "another client has the same identifier; name this one with -i"
	case packet.MalformedPacket, packet.ProtocolError, packet.TopicAliasInvalid, packet.TopicNameInvalid, packet.PayloadFormatInvalid:
		return exitProtocol, "-d shows the packets"
	case packet.ReceiveMaximumExceeded, packet.PacketTooLarge, packet.MessageRateTooHigh, packet.QuotaExceeded:
		return exitLimit, "send less, or have the server allow more"
	case packet.RetainNotSupported, packet.QoSNotSupported, packet.SharedSubscriptionsNotSupported, packet.SubscriptionIdentifiersNotSupported, packet.WildcardSubscriptionsNotSupported:
		return exitUnsupported, "`myelin check URL` shows what this server can do"
	}
	if who {
		return exitNotAuthorized, "check what this user may do"
	}
	return exitLost, "the server's log may say why"
}

func publishHint(r packet.Reason) string {
	switch r {
	case packet.NotAuthorized:
		return "check what this user may publish"
	case packet.QuotaExceeded:
		return "the server, or a queue on it, is full: send later or less"
	case packet.PayloadFormatInvalid:
		return "the payload is not UTF-8 text, or leave --payload-format out"
	}
	return "the server's log may say why"
}

// classifyDial reads the failure of a connection before MQTT begins on it; code
// 0: it is none.
func classifyDial(err error) (code int, hint string) {
	code = map[dial.Phase]int{dial.DNS: exitName, dial.TCP: exitNoConnection, dial.TLS: exitTLS, dial.WebSocket: exitWebSocket}[dial.PhaseOf(err)]
	if code == 0 && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)) {
		code = exitNoConnection
	}
	hint = dial.Hint(err)
	if hint == "" && code != 0 {
		hint = "-d shows how far it comes"
	}
	return code, hint
}

// misuse is a usage error of a client command, whose help tells its flags.
func misuse(hint, what string, args ...any) error {
	return usage(fmt.Sprintf(what, args...), hint)
}
