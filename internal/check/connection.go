package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

func version31(ctx context.Context, t *trial) error  { return speaks(ctx, t, packet.V31) }
func version311(ctx context.Context, t *trial) error { return speaks(ctx, t, packet.V311) }
func version5(ctx context.Context, t *trial) error   { return speaks(ctx, t, packet.V5) }

// speaks connects in a version and has a message come back.
func speaks(ctx context.Context, t *trial, v packet.Version) error {
	c, err := t.connect(ctx, packet.Connect{Version: v, CleanStart: true})
	if refusal, ok := errors.AsType[*RefusedError](err); ok && refusal.Code == packet.UnsupportedProtocolVersion {
		return absent("CONNACK: %v", refusal.Code)
	}
	if end, ok := errors.AsType[*endError](err); ok {
		return absent("%s without a CONNACK", end.how())
	}
	if err != nil {
		return err
	}
	_, err = c.subscribe(ctx, 0, t.topic("v"))
	if end, ok := errors.AsType[*endError](err); ok && v < packet.V5 {
		return unknown("%v: it may be that access is denied", end) // 3.1 has no other way to say so
	}
	if err != nil {
		return err
	}
	if err := c.publish(ctx, &packet.Message{Topic: t.topic("v"), Payload: []byte("hello")}); err != nil {
		return err
	}
	_, err = c.expect(ctx, "hello")
	return err
}

// versionUnknown connects with protocol level 6, and must be refused
// [MQTT-3.1.2-2].
func versionUnknown(ctx context.Context, t *trial) error {
	const levelAt = 2 + 2 + len("MQTT") // behind the fixed header and the name
	return refusedConnect(ctx, t, "protocol level 6", func(b []byte) { b[levelAt] = 6 })
}

// refusedConnect connects with a packet that was changed, and must be refused.
func refusedConnect(ctx context.Context, t *trial, what string, change func([]byte)) error {
	c, err := t.raw(ctx, packet.V5)
	if err != nil {
		return err
	}
	k := packet.Connect{ClientID: t.id(), CleanStart: true, KeepAlive: 60, RequestProblemInfo: true}
	b := k.Append(nil, packet.V5)
	change(b)
	if err := c.write(ctx, b); err != nil {
		return err
	}
	answer := "no CONNACK"
	err = c.greeting(ctx)
	if end, ok := errors.AsType[*endError](err); ok {
		t.tell("%s, %s", answer, end.how())
		return nil
	}
	if err != nil {
		return err
	}
	if answer = fmt.Sprintf("CONNACK %v", c.ack.Code); !c.ack.Code.Failed() {
		return broken("%s: accepted", what)
	}
	end, err := c.ends(ctx, what+", answered with "+answer)
	if err != nil {
		return err
	}
	t.tell("%s, %s", answer, end.how())
	return nil
}

// connackLimits tells what the server says of itself.
func connackLimits(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	// Wishes that a server may cut down, so that it tells its own maximum.
	c, err := t.connect(ctx, packet.Connect{CleanStart: true, KeepAlive: 65535, SessionExpiry: 0xFFFFFFFF, RequestResponseInfo: true})
	if err != nil {
		return err
	}
	var no []string
	a := &c.ack
	limit(t, "receive maximum", "receive_maximum", a.ReceiveMax, "")
	if a.MaxPacket != nil {
		t.also("packets up to %s", size(int(*a.MaxPacket)))
		t.value("maximum_packet_size", *a.MaxPacket)
	}
	limit(t, "topic aliases", "topic_alias_maximum", a.AliasMax, "")
	limit(t, "QoS", "maximum_qos", a.MaxQoS, "")
	limit(t, "session expiry", "session_expiry", a.SessionExpiry, " s")
	limit(t, "keep-alive", "server_keep_alive", a.ServerKeepAlive, " s")
	for _, f := range []struct {
		name, value string
		is          *bool
	}{
		{"retained messages", "retain_available", a.RetainAvailable},
		{"wildcards", "wildcard_subscription_available", a.WildcardAvailable},
		{"subscription identifiers", "subscription_identifier_available", a.SubIDAvailable},
		{"shared subscriptions", "shared_subscription_available", a.SharedAvailable},
	} {
		if t.value(f.value, f.is == nil || *f.is); f.is != nil && !*f.is {
			no = append(no, f.name)
		}
	}
	if len(no) > 0 {
		t.also("no %s", strings.Join(no, ", "))
	}
	if a.ResponseInfo != "" {
		t.also("response information %q", a.ResponseInfo)
		t.value("response_information", a.ResponseInfo)
	}
	if t.detail == "" {
		t.tell("no limits")
	}
	return nil
}

// limit tells one limit, if it is there.
func limit[T uint16 | uint32 | packet.QoS](t *trial, name, value string, n *T, unit string) {
	if n != nil {
		t.also("%s %d%s", name, *n, unit)
		t.value(value, *n)
	}
}

// pingPong measures PINGREQ to PINGRESP.
func pingPong(ctx context.Context, t *trial) error {
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range rounds {
		began := time.Now()
		if err := c.ping(ctx); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	t.tell("%s", short(median(took)))
	t.value("ms", millis(median(took)))
	return nil
}

// keepAlive has pings keep a connection, and silence end it [MQTT-3.1.2-22].
func keepAlive(ctx context.Context, t *trial) error {
	// A server may look only now and then, and close later than it must.
	late := t.o.Patience + 2*time.Second
	const ask = 1
	c, err := t.connect(ctx, packet.Connect{CleanStart: true, KeepAlive: ask})
	if err != nil {
		return err
	}
	seconds := uint16(ask)
	if s := c.ack.ServerKeepAlive; s != nil { // [MQTT-3.2.2-21]
		seconds = *s
		t.value("server_keep_alive", seconds)
	}
	if seconds == 0 || seconds > 5 {
		return skipped("the server sets %d s: too long to wait for", seconds)
	}
	keep := time.Duration(seconds) * time.Second
	for range 3 {
		if err := wait(ctx, keep*8/10); err != nil {
			return err
		}
		if err := c.ping(ctx); err != nil {
			return fmt.Errorf("with a PINGREQ in time: %w", err)
		}
	}
	began := time.Now()
	c.patience = keep*3/2 + late
	end, err := c.ends(ctx, fmt.Sprintf("silence for %v at a keep-alive of %d s", c.patience, seconds))
	if err != nil {
		return err
	}
	took := time.Since(began)
	if took < keep {
		return broken("%s after %s of silence, the keep-alive is %d s", end.how(), short(took), seconds)
	}
	t.tell("%d s: %s after %s", seconds, end.how(), short(took))
	if took > keep*3/2+time.Second {
		t.also("it should be %s", short(keep*3/2))
	}
	t.value("closed_after_ms", millis(took))
	return nil
}

// clientIDEmpty leaves the identifier to the server.
func clientIDEmpty(ctx context.Context, t *trial) error {
	c, err := t.try(ctx, packet.Connect{CleanStart: true})
	if err != nil {
		return err
	}
	if c.ack.Code.Failed() {
		if _, err := c.ends(ctx, fmt.Sprintf("CONNACK %v", c.ack.Code)); err != nil {
			return err // [MQTT-3.1.3-8]
		}
		return absent("CONNACK %v", c.ack.Code)
	}
	if t.version >= packet.V5 {
		if c.ack.AssignedClientID == "" { // [MQTT-3.2.2-16]
			return broken("accepted, and the CONNACK has no Assigned Client Identifier")
		}
		t.tell("%.40q", c.ack.AssignedClientID)
		return nil
	}
	// Only where no session is asked for [MQTT3-3.1.3-8].
	c, err = t.try(ctx, packet.Connect{})
	if end, ok := errors.AsType[*endError](err); ok {
		return broken("without clean session: %s and no CONNACK, which must be %v", end.how(), packet.ClientIdentifierNotValid)
	}
	if err != nil {
		return err
	}
	if c.ack.Code != packet.ClientIdentifierNotValid {
		return broken("without clean session: CONNACK %v", c.ack.Code)
	}
	return nil
}

// takeover connects with the identifier of a client that is there
// [MQTT-3.1.4-3].
func takeover(ctx context.Context, t *trial) error {
	id := t.id()
	old, err := t.connect(ctx, packet.Connect{ClientID: id, CleanStart: true})
	if err != nil {
		return err
	}
	c, err := t.connect(ctx, packet.Connect{ClientID: id, CleanStart: true})
	if err != nil {
		return err
	}
	end, err := old.ends(ctx, "a second connection with its client identifier")
	if err != nil {
		return err
	}
	if t.version >= packet.V5 && (end.bye == nil || end.bye.Code != packet.SessionTakenOver) {
		return broken("the first connection: %s, not DISCONNECT %v", end.how(), packet.SessionTakenOver)
	}
	t.tell("%s", end.how())
	return c.ping(ctx)
}
