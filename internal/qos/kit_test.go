package qos

import (
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// message is a kept message whose topic is its name.
func message(t testing.TB, name string, payload int) *packet.Publish {
	t.Helper()
	p, err := packet.NewPublish(&packet.Message{Topic: name, Payload: make([]byte, payload), QoS: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// startAt makes the next identifier of an empty Sender id.
func startAt(s *Sender, id uint16) { s.first = id }
