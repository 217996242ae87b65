package check

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

// edit makes a fault of a change to packets of one direction. A packet that it
// returns nil for is lost.
func edit(fromServer bool, change func(w *wire, p packet.Packet) packet.Packet) fault {
	return func(w *wire, server bool, b []byte) [][]byte {
		p, _, err := packet.Parse(b, 0, w.v)
		if server != fromServer || err != nil {
			return [][]byte{b}
		}
		q := change(w, p)
		if q == nil {
			return nil
		}
		return [][]byte{q.Append(nil, w.v)}
	}
}

// lose drops every packet of a type.
func lose(fromServer bool, t packet.Type) fault {
	return edit(fromServer, func(_ *wire, p packet.Packet) packet.Packet {
		if p.Type() == t {
			return nil
		}
		return p
	})
}

func onConnect(change func(k *packet.Connect)) fault {
	return edit(false, func(_ *wire, p packet.Packet) packet.Packet {
		if k, ok := p.(*packet.Connect); ok {
			change(k)
		}
		return p
	})
}

func onConnack(change func(k *packet.Connack)) fault {
	return edit(true, func(_ *wire, p packet.Packet) packet.Packet {
		if k, ok := p.(*packet.Connack); ok {
			change(k)
		}
		return p
	})
}

// onSubscribe changes what the server gets to see of subscriptions.
func onSubscribe(change func(s *packet.Subscribe, f *packet.Subscription)) fault {
	return edit(false, func(_ *wire, p packet.Packet) packet.Packet {
		if s, ok := p.(*packet.Subscribe); ok {
			for i := range s.Filters {
				change(s, &s.Filters[i])
			}
		}
		return p
	})
}

// onMessage changes the messages that come from the server.
func onMessage(change func(m *packet.Message)) fault {
	return edit(true, func(w *wire, p packet.Packet) packet.Packet {
		old, ok := p.(*packet.Publish)
		if !ok {
			return p
		}
		m := old.Message()
		change(m)
		q, err := packet.NewPublish(m, 0)
		if err != nil {
			panic(err)
		}
		b := packet.AppendPublish(nil, q, w.v, packet.PublishOpts{QoS: m.QoS, Retain: m.Retain, Dup: old.Dup(), ID: old.ID, Expiry: m.Expiry})
		again, _, err := packet.Parse(b, 0, w.v)
		if err != nil {
			panic(err)
		}
		return again
	})
}

// on changes the bytes of packets of one type.
func on(fromServer bool, t packet.Type, change func(w *wire, b []byte) [][]byte) fault {
	return func(w *wire, server bool, b []byte) [][]byte {
		if server != fromServer || packet.FrameType(b) != t {
			return [][]byte{b}
		}
		return change(w, b)
	}
}

// flip changes the first byte of packets of one type.
func flip(fromServer bool, t packet.Type, change func(first byte) byte) fault {
	return on(fromServer, t, func(_ *wire, b []byte) [][]byte {
		b[0] = change(b[0])
		return [][]byte{b}
	})
}

// TestBroken: a check finds the fault that it is there for, and says which it is.
func TestBroken(t *testing.T) {
	t.Parallel()
	_, address := own(t, broker.Options{MaxPacketSize: 300 << 10, MaxConnectSize: 128 << 10})
	// They wait more than they compute.
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, 16)
	for _, x := range []struct {
		check, says string
		fault       fault
	}{
		{"version-unknown", "accepted", on(false, packet.CONNECT, func(_ *wire, b []byte) [][]byte {
			b[8] = 5
			return [][]byte{b}
		})},
		{"ping", "PINGRESP did not come", lose(true, packet.PINGRESP)},
		{"keep-alive", "stays open", onConnect(func(k *packet.Connect) { k.KeepAlive = 600 })},
		{"client-id-empty", "no Assigned Client Identifier", onConnack(func(k *packet.Connack) { k.AssignedClientID = "" })},
		{"takeover", "not DISCONNECT Session taken over", lose(true, packet.DISCONNECT)},

		{"qos-1", "PUBACK did not come", lose(true, packet.PUBACK)},
		{"qos-2", "PUBCOMP did not come", lose(true, packet.PUBCOMP)},
		{"qos-0", `payload "round 0!"`, onMessage(func(m *packet.Message) { m.Payload = append(m.Payload, '!') })},
		{"qos-granted", "QoS 2 arrives", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) { f.Options = f.Options&^3 | 2 })},
		{"exactly-once", "arrives twice", on(true, packet.PUBLISH, func(_ *wire, b []byte) [][]byte {
			var p packet.Publish
			if p.Parse(b, 2, packet.V5) != nil {
				return [][]byte{b}
			}
			again := packet.AppendPublish(nil, &p, packet.V5, packet.PublishOpts{QoS: 2, ID: p.ID + 1000})
			return [][]byte{b, again}
		})},
		{"order", "came where", on(true, packet.PUBLISH, func(w *wire, b []byte) [][]byte {
			if w.count++; w.count == 5 {
				w.held = b
				return nil
			}
			out := [][]byte{b}
			if w.held != nil {
				out, w.held = [][]byte{b, w.held}, nil
			}
			return out
		})},
		{"utf-8", "where", onMessage(func(m *packet.Message) {
			m.Topic = strings.ReplaceAll(m.Topic, "e\u0301", "\u00e9")
		})},
		{"properties", "user properties", onMessage(func(m *packet.Message) {
			slices.SortStableFunc(m.User, func(a, b packet.UserProperty) int { return strings.Compare(a.Key, b.Key) })
		})},
		{"request-response", "Correlation Data", onMessage(func(m *packet.Message) { m.Correlation = []byte("8") })},
		{"message-expiry", "is 100 s after a wait", onMessage(func(m *packet.Message) { m.Expiry = 100 })},
		{"topic-alias-server", "the client allows 0", onConnect(func(k *packet.Connect) { k.AliasMax = 5 })},

		{"retained", "RETAIN is not set", flip(true, packet.PUBLISH, func(b byte) byte { return b &^ 1 })},
		{"retain-handling", "subscription there", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) { f.Options &= 0xF })},
		{"retain-as-published", "RETAIN false arrives", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) { f.Options &^= packet.RetainAsPublished })},

		{"wildcard-plus", "got the message of", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) {
			f.Filter = strings.ReplaceAll(f.Filter, "+/b", "#")
		})},
		{"wildcard-hash", "did not come", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) {
			f.Filter = strings.ReplaceAll(f.Filter, "a/#", "a/+")
		})},
		{"dollar-topics", "of \"$myelin-check/", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) {
			f.Filter = strings.ReplaceAll(f.Filter, "+/", "$myelin-check/")
		})},
		{"overlap", "where a subscription has 2", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) { f.Options &^= 3 })},
		{"unsubscribe", "UNSUBACK", edit(false, func(_ *wire, p packet.Packet) packet.Packet {
			if u, ok := p.(*packet.Unsubscribe); ok {
				u.Filters[0] = "other"
			}
			return p
		})},
		{"no-local", `"own"`, onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) { f.Options &^= packet.NoLocal })},
		{"identifiers", "identifiers [] in 1", onSubscribe(func(s *packet.Subscribe, _ *packet.Subscription) { s.SubID = 0 })},
		{"shared", "should get 40", onSubscribe(func(_ *packet.Subscribe, f *packet.Subscription) {
			if name, ok := strings.CutPrefix(f.Filter, "$share/"); ok {
				_, f.Filter, _ = strings.Cut(name, "/")
			}
		})},

		{"session-resume", "no session present", onConnack(func(k *packet.Connack) { k.SessionPresent = false })},
		{"session-resend", "without DUP", flip(true, packet.PUBLISH, func(b byte) byte { return b &^ 8 })},
		{"session-release", "PUBREL did not come", func(w *wire, fromServer bool, b []byte) [][]byte {
			present := fromServer && packet.FrameType(b) == packet.CONNACK && b[2]&1 == 1
			if w.back = w.back || present; w.back && fromServer && packet.FrameType(b) == packet.PUBREL {
				return nil
			}
			return [][]byte{b}
		}},
		{"session-receive", "arrives twice", func(w *wire, fromServer bool, b []byte) [][]byte {
			// After coming back the message is another one.
			present := fromServer && packet.FrameType(b) == packet.CONNACK && b[2]&1 == 1
			if w.back = w.back || present; w.back && !fromServer && packet.FrameType(b) == packet.PUBLISH {
				var p packet.Publish
				if p.Parse(b, 2, packet.V5) != nil {
					return [][]byte{b}
				}
				return [][]byte{packet.AppendAck(nil, packet.PUBREL, packet.V5, p.ID, 0), b}
			}
			return [][]byte{b}
		}},
		{"session-end", "session present", onConnect(func(k *packet.Connect) { k.SessionExpiry = 300 })},
		{"clean-start", "session present", onConnect(func(k *packet.Connect) { k.CleanStart = false })},

		{"will", "did not come", onConnect(func(k *packet.Connect) { k.Will = nil })},
		{"will-discarded", "comes after a DISCONNECT", lose(false, packet.DISCONNECT)},
		{"will-retained", "did not come", onConnect(func(k *packet.Connect) {
			if k.Will != nil {
				k.Will.Retain = false
			}
		})},
		{"will-delay", "without its delay", onConnect(func(k *packet.Connect) {
			if k.Will != nil {
				k.Will.Delay = 0
			}
		})},

		{"payload", "CONNACK has no Maximum Packet Size", onConnack(func(k *packet.Connack) { k.MaxPacket = nil })},
		{"packet-size-server", "stays open", onConnack(func(k *packet.Connack) { k.MaxPacket = new(uint32(100 << 10)) })},
		{"packet-size", `"long`, onConnect(func(k *packet.Connect) { k.MaxPacket = 0 })},
		{"receive-maximum", "more than Receive Maximum 3", onConnect(func(k *packet.Connect) { k.ReceiveMax = 0 })},
		{"receive-maximum-server", "after the PUBREC of 1024 in flight of 1025", onConnack(func(k *packet.Connack) { k.ReceiveMax = new(uint16(1025)) })},
		{"alias-maximum", "closed the connection", onConnack(func(k *packet.Connack) { k.AliasMax = new(uint16(65)) })},
		{"maximum-qos", "stays open", onConnack(func(k *packet.Connack) { k.MaxQoS = new(packet.QoS(1)) })},
		{"retain-unavailable", "stays open", onConnack(func(k *packet.Connack) { k.RetainAvailable = new(false) })},

		{"second-connect", "stays open", on(false, packet.CONNECT, func(w *wire, b []byte) [][]byte {
			if w.count++; w.count > 1 {
				return nil
			}
			return [][]byte{b}
		})},
		{"unknown-alias", "stays open", on(false, packet.PUBLISH, func(_ *wire, b []byte) [][]byte {
			if bytes.Contains(b, []byte("payload")) {
				return nil
			}
			return [][]byte{b}
		})},
		{"connack", "what the standard forbids", on(true, packet.CONNACK, func(_ *wire, b []byte) [][]byte {
			b[2] |= 2
			return [][]byte{b}
		})},
	} {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			o := options(t, meddle(t, address, x.fault), x.check)
			o.Patience = time.Second
			if x.check == "connack" {
				// The fault is in every CONNACK, and ends the run.
				if _, err := Run(t.Context(), o, nil); err == nil || !strings.Contains(err.Error(), x.says) {
					t.Errorf("%s: got %v, want %q", x.check, err, x.says)
				}
				return
			}
			if f := judged(t, o)[x.check]; f.Status != Broken || !strings.Contains(f.Detail, x.says) || len(f.Packets) == 0 {
				t.Errorf("%s: got %s: %s; want broken: %s", x.check, f.Status, f.Detail, x.says)
			}
		})
	}
}
