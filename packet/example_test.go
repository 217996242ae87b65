package packet_test

import (
	"errors"
	"fmt"

	"github.com/myelin-mqtt/myelin/packet"
)

// A server or client reads into a buffer and takes whole packets off its front.
func ExampleFrame() {
	buf := []byte("\xc0\x00" + "\x30\x06\x00\x03a/bx" + "\x30\x06\x00")
	const limit = 1 << 20
	for {
		n, hdr, err := packet.Frame(buf, limit)
		if err != nil {
			fmt.Println("disconnect:", err)
			return
		}
		if n == 0 {
			fmt.Println("wait for more after", len(buf), "bytes")
			return
		}
		fmt.Println(packet.FrameType(buf), n, "bytes, header", hdr)
		buf = buf[n:]
	}
	// Output:
	// PINGREQ 2 bytes, header 2
	// PUBLISH 8 bytes, header 2
	// wait for more after 3 bytes
}

// A tool that shows what goes over the wire parses any packet.
func ExampleParse() {
	capture := []byte("\x32\x0b\x00\x03a/b\x00\x05\x00hey" + "\x40\x03\x00\x05\x10")
	for len(capture) > 0 {
		p, n, err := packet.Parse(capture, 0, packet.V5)
		if err != nil || n == 0 {
			fmt.Println(err)
			return
		}
		fmt.Println(p)
		capture = capture[n:]
	}
	// Output:
	// PUBLISH q1 r0 d0 m5 "a/b" 3 B
	// PUBACK m5 No matching subscribers (0x10)
}

// An error carries the reason code to answer with.
func ExampleError() {
	_, _, err := packet.Parse([]byte("\x30\x05\x00\x03a/#"), 0, packet.V311)
	var e *packet.Error
	if errors.As(err, &e) {
		fmt.Printf("%s / 0x%02X / %v\n", e.Text, uint8(e.Code), e.Code.Failed())
	}
	// Output:
	// topic: wildcard / 0x90 / true
}

// A view reads a message where it lies; Keep is the way to hold on to it.
func ExamplePublish() {
	buf := []byte("\x30\x15\x00\x03a/b\x0b\x26\x00\x04unit\x00\x02km12.5")
	var view packet.Publish
	if err := view.Parse(buf, 2, packet.V5); err != nil {
		fmt.Println(err)
		return
	}
	kept := view.Keep(1_700_000_000)
	clear(buf) // the next read
	for k, v := range kept.User() {
		fmt.Printf("%s: %s %s=%s\n", kept.Topic(), kept.Payload(), k, v)
	}
	// Output:
	// a/b: 12.5 unit=km
}

// A message for many is encoded at most once for each form; what differs is patched in each copy.
func ExampleEncoder() {
	message, err := packet.NewPublish(&packet.Message{Topic: "a", Payload: []byte("hi"), QoS: packet.AtLeastOnce}, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	targets := []struct {
		version packet.Version
		qos     packet.QoS
		id      uint16
	}{{packet.V311, 0, 0}, {packet.V311, 1, 7}, {packet.V5, 1, 9}, {packet.V5, 1, 10}}
	var e packet.Encoder
	e.Reset(message, 0)
	for _, t := range targets {
		frame, idAt := e.Frame(packet.FormOf(t.version, t.qos))
		out := append([]byte(nil), frame...)
		packet.PatchFlags(out, t.qos, false, false)
		if idAt > 0 {
			packet.PatchID(out, idAt, t.id)
		}
		fmt.Printf("%x\n", out)
	}
	// Output:
	// 30050001616869
	// 320700016100076869
	// 32080001610009006869
	// 3208000161000a006869
}

// What only one target gets, such as its subscription identifiers, is encoded for it alone.
func ExampleAppendPublish() {
	message, err := packet.NewPublish(&packet.Message{Topic: "a", Payload: []byte("hi")}, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	o := packet.PublishOpts{QoS: packet.AtLeastOnce, ID: 5, SubIDs: []uint32{3, 4}, Retain: true}
	b := packet.AppendPublish(nil, message, packet.V5, o)
	p, _, err := packet.Parse(b, 0, packet.V5)
	fmt.Println(p, err, packet.SizePublish(message, packet.V5, o) == len(b))
	// Output:
	// PUBLISH q1 r1 d0 m5 "a" 2 B sub 3 sub 4 <nil> true
}

// A client says hello in the version of its choice.
func ExampleConnect() {
	c := packet.Connect{
		Version: packet.V311, ClientID: "meter-7", CleanStart: true, KeepAlive: 60,
		HasUsername: true, Username: "anna", HasPassword: true, Password: []byte("secret"),
		Will: &packet.Will{Message: packet.Message{Topic: "meter/7/state", Payload: []byte("gone"), QoS: 1, Retain: true}},
	}
	b := c.Append(nil, 0)
	fmt.Println(len(b) == c.Length(0))
	fmt.Println(&c)
	// Output:
	// true
	// CONNECT 3.1.1 "meter-7" clean keep-alive 60 s user "anna" password will q1 r1 "meter/7/state" 4 B
}

// A refusal below 5.0 has only few words; without a fitting one the connection is closed silently.
func ExampleReason_ReturnCode() {
	for _, r := range []packet.Reason{packet.NotAuthorized, packet.ServerBusy, packet.MalformedPacket} {
		code, ok := r.ReturnCode()
		fmt.Println(r, "->", code, ok)
	}
	// Output:
	// Not authorized (0x87) -> 5 true
	// Server busy (0x89) -> 3 true
	// Malformed packet (0x81) -> 0 false
}
