package disk

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Parts says what Dump is to yield.
type Parts struct {
	Sessions, Queues, Retained bool
	// ClientID is the one session of Sessions and Queues; "": all.
	ClientID string
}

// SessionLine is a session of a dump.
type SessionLine struct {
	Type          string         `json:"type"` // "session"
	ClientID      string         `json:"client_id"`
	Session       uint64         `json:"session"`            // its number in the store
	Expiry        uint32         `json:"expiry"`             // seconds after Detached, 4294967295: never
	Detached      string         `json:"detached,omitempty"` // the end of its last connection; none: it was connected
	Will          *WillLine      `json:"will,omitempty"`
	Subscriptions []SubLine      `json:"subscriptions"`
	Inbound       []uint16       `json:"inbound,omitempty"`  // QoS 2 identifiers whose PUBREL has not come
	Outbound      []OutboundLine `json:"outbound,omitempty"` // QoS 2 messages in flight to the client
	Queued        int            `json:"queued"`             // messages that are not finished, those in flight included
	QueuedBytes   int64          `json:"queued_bytes"`       // topics and payloads
}

// WillLine is the will of a session.
type WillLine struct {
	MessageLine
	Delay uint32 `json:"delay"` // seconds
	Armed bool   `json:"armed"` // it is due its delay after Detached
}

// SubLine is a subscription.
type SubLine struct {
	Filter            string     `json:"filter"`
	ID                uint32     `json:"id,omitempty"`
	QoS               packet.QoS `json:"qos"`
	NoLocal           bool       `json:"no_local,omitempty"`
	RetainAsPublished bool       `json:"retain_as_published,omitempty"`
	RetainHandling    byte       `json:"retain_handling,omitempty"`
	RetainedOwed      bool       `json:"retained_owed,omitempty"` // retained messages are still to be queued for it
}

// OutboundLine is a QoS 2 message in flight to the client.
type OutboundLine struct {
	ID       uint16 `json:"id"`
	Message  uint64 `json:"message"`
	Recorded bool   `json:"recorded"` // its PUBREC was seen
}

// QueuedLine is a message of a session's queue. Those of one session come in
// their order; sessions take turns, in the order of the log.
type QueuedLine struct {
	Type            string     `json:"type"` // "queued"
	ClientID        string     `json:"client_id"`
	Session         uint64     `json:"session"`
	Message         uint64     `json:"message"` // its number in the store; the same for each session that it waits for
	ID              uint16     `json:"id,omitempty"`
	DeliveryQoS     packet.QoS `json:"delivery_qos"`
	DeliveryRetain  bool       `json:"delivery_retain,omitempty"`
	Shared          bool       `json:"shared,omitempty"` // it came through a shared subscription
	SubscriptionIDs []uint32   `json:"subscription_ids,omitempty"`
	MessageLine
}

// RetainedLine is a retained message.
type RetainedLine struct {
	Type string `json:"type"` // "retained"
	MessageLine
}

// MessageLine is a message as it was published.
type MessageLine struct {
	Topic          string      `json:"topic"`
	QoS            packet.QoS  `json:"qos"`
	Retain         bool        `json:"retain,omitempty"`
	Received       string      `json:"received"`
	Expires        string      `json:"expires,omitempty"`
	ContentType    string      `json:"content_type,omitempty"`
	ResponseTopic  string      `json:"response_topic,omitempty"`
	Correlation    []byte      `json:"correlation_base64,omitempty"`
	UserProperties [][2]string `json:"user_properties,omitempty"`
	Size           int64       `json:"size"`                     // of topic and payload, in bytes
	Payload        *string     `json:"payload,omitempty"`        // where it is UTF-8
	PayloadBase64  []byte      `json:"payload_base64,omitempty"` // where it is not
}

func when(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }

func messageLine(m *packet.Publish) MessageLine {
	p := m.Message()
	l := MessageLine{
		Topic: p.Topic, QoS: p.QoS, Retain: p.Retain, Received: when(int64(m.At)), ContentType: p.ContentType,
		ResponseTopic: p.ResponseTopic, Correlation: p.Correlation, Size: size(m),
	}
	if p.HasExpiry {
		l.Expires = when(int64(m.At) + int64(p.Expiry))
	}
	for _, u := range p.User {
		l.UserProperties = append(l.UserProperties, [2]string{u.Key, u.Value})
	}
	if utf8.Valid(p.Payload) {
		text := string(p.Payload)
		l.Payload = &text
	} else {
		l.PayloadBase64 = p.Payload
	}
	return l
}

// Dump yields what is stored: a SessionLine for each session, a QueuedLine for
// each message of each session's queue, a RetainedLine for each retained
// message. It ends at the first record that cannot be read.
func (v *View) Dump(ctx context.Context, parts Parts, yield func(line any) error) error {
	if err := v.load(nil); err != nil {
		return err
	}
	if parts.Sessions {
		if err := v.count(ctx); err != nil {
			return err
		}
		err := v.each('s', func(key, val []byte) error {
			if s := v.sessions[sidOf(key)]; s == nil || parts.ClientID != "" && s.id != parts.ClientID {
				return nil
			}
			line, err := v.session(sidOf(key), val)
			if err != nil {
				return fmt.Errorf("%s: %w", v.describe(key), err)
			}
			return hand(ctx, yield, line)
		})
		if err != nil {
			return err
		}
	}
	if parts.Queues {
		if err := v.queues(ctx, parts.ClientID, yield); err != nil {
			return err
		}
	}
	if !parts.Retained {
		return nil
	}
	return v.each('r', func(key, val []byte) error {
		m, err := parseMessage(val)
		if err != nil {
			return fmt.Errorf("%s: %w", v.describe(key), err)
		}
		return hand(ctx, yield, &RetainedLine{"retained", messageLine(m)})
	})
}

func hand(ctx context.Context, yield func(any) error, line any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return yield(line)
}

func (v *View) session(sid uint64, val []byte) (*SessionLine, error) {
	s := v.sessions[sid]
	var q queue
	if err := q.parseRecord(val); err != nil {
		return nil, err
	}
	l := &SessionLine{
		Type: "session", ClientID: s.id, Session: sid, Expiry: q.expiry, Subscriptions: []SubLine{}, Queued: s.n, QueuedBytes: s.bytes,
	}
	if q.detached != 0 {
		l.Detached = when(int64(q.detached))
	}
	if w := q.will(); w != nil {
		l.Will = &WillLine{messageLine(w.Msg), w.Delay, q.armed}
	}
	for lsn, x := range s.out {
		if !s.done(lsn) {
			l.Outbound = append(l.Outbound, OutboundLine{ID: x.id, Message: lsn, Recorded: x.recorded})
		}
	}
	slices.SortFunc(l.Outbound, func(a, b OutboundLine) int {
		if a.Message < b.Message {
			return -1
		}
		return 1
	})
	err := v.of('u', sid, func(key, val []byte) error {
		x, err := parseSub(key, val)
		if err != nil {
			return err
		}
		o := x.Options
		l.Subscriptions = append(l.Subscriptions, SubLine{
			Filter: x.Filter, ID: x.ID, QoS: o.QoS(), NoLocal: o.NoLocal(), RetainAsPublished: o.RetainAsPublished(), RetainHandling: o.RetainHandling(), RetainedOwed: x.Owed,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, v.of('d', sid, func(key, _ []byte) error {
		if len(key) != 11 {
			return errShort
		}
		l.Inbound = append(l.Inbound, uint16(key[9])<<8|uint16(key[10]))
		return nil
	})
}

// addressee is a session that waits for a message.
type addressee struct {
	sid uint64
	how
}

// queues yields what waits, in the order of the log.
func (v *View) queues(ctx context.Context, clientID string, yield func(any) error) error {
	to := map[uint64][]addressee{} // of one group's messages
	return v.each('m', func(key, val []byte) error {
		if len(key) != 10 {
			return fmt.Errorf("%s: %w", v.describe(key), errShort)
		}
		lsn := sidOf(key)
		if key[9] == kindTargets {
			clear(to)
			_, err := eachTarget(val, func(place uint64, _ uint32, sid uint64, h how) {
				if s := v.sessions[sid]; s != nil && !s.done(lsn+place) && (clientID == "" || s.id == clientID) {
					to[lsn+place] = append(to[lsn+place], addressee{sid, h})
				}
			})
			if err != nil {
				return fmt.Errorf("%s: %w", v.describe(key), err)
			}
			return ctx.Err()
		}
		if len(to[lsn]) == 0 {
			return nil
		}
		m, err := parseMessage(val)
		if err != nil {
			return fmt.Errorf("%s: %w", v.describe(key), err)
		}
		text := messageLine(m)
		for _, a := range to[lsn] {
			s := v.sessions[a.sid]
			l := &QueuedLine{
				Type: "queued", ClientID: s.id, Session: a.sid, Message: lsn, ID: s.out[lsn].id, DeliveryQoS: a.qos,
				DeliveryRetain: a.flags&store.Retain != 0, Shared: a.flags&store.Shared != 0, MessageLine: text,
			}
			if a.more != nil {
				l.SubscriptionIDs = *a.more
			} else if a.sub != 0 {
				l.SubscriptionIDs = []uint32{a.sub}
			}
			if err := hand(ctx, yield, l); err != nil {
				return err
			}
		}
		return nil
	})
}
