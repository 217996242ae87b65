package broker

import (
	"context"
	"errors"
	"time"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
	"github.com/myelin-mqtt/myelin/internal/store/mem"
	"github.com/myelin-mqtt/myelin/topic"
)

// openStore opens the store that the options name, and says what it promises.
func (b *Broker) openStore(o *Options) (e store.Engine, err error) {
	if o.Durability == "memory" {
		e = mem.Open(mem.Options{
			Limits: o.limits(), MaxRetained: o.Retain.MaxMessages, MaxRetainedBytes: o.Retain.MaxBytes, NoRetain: o.Retain.Disabled, OnDrop: b.storeDropped,
		})
	} else {
		d := disk.Fsync
		if o.Durability == "async" {
			d = disk.Async
		}
		do := disk.Options{
			Dir: o.DataDir, FS: o.dataFS, Durability: d, Limits: o.limits(), MaxRetained: o.Retain.MaxMessages,
			MaxRetainedBytes: o.Retain.MaxBytes, NoRetain: o.Retain.Disabled, OnDrop: b.storeDropped, Logger: o.Logger, MinFreeBytes: o.MinFreeDisk,
		}
		if o.tuneDisk != nil {
			o.tuneDisk(&do)
		}
		e, err = disk.Open(do)
		if err != nil {
			return nil, err
		}
		o.Logger.Info("data directory opened", "dir", o.DataDir, "durability", o.Durability)
	}
	if o.wrapStore != nil {
		e = o.wrapStore(e)
	}
	return e, nil
}

// recover takes up the sessions that the store has kept.
func (b *Broker) recover() error {
	n, started := 0, time.Now()
	b.registry.reserve(b.store.Stats().Sessions)
	var faults []error
	err := b.store.Recover(func(st *store.Stored) bool {
		n++
		if err := b.adopt(st); err != nil {
			faults = append(faults, err)
		}
		return true
	})
	if n > 0 {
		b.log.Info("sessions recovered", "sessions", n, "took", time.Since(started))
	}
	return errors.Join(append(faults, err)...)
}

// adopt makes a session of what the store kept of it. Nobody owns it; its
// timers run from the end of its last connection.
func (b *Broker) adopt(st *store.Stored) error {
	s := newSession(st.ClientID)
	s.store, s.expiry = st.Session, st.Expiry
	if len(st.Inbound) > 0 {
		s.activate()
		s.in = b.newIn()
		for _, id := range st.Inbound {
			s.in.Recv.Restore(id)
		}
	}
	for i := range st.Out {
		o := &st.Out[i]
		x := qos.Slot{LSN: o.LSN, QoS: 2, Flags: qos.Durable, State: qos.Released}
		if d := &o.Delivery; !o.Recorded {
			x.Msg, x.More, x.Sub, x.State = d.Msg, d.More, d.Sub, qos.Sent
			x.Flags |= d.Flags
		}
		s.activate()
		if !s.out.Send.Restore(o.ID, x) {
			return errors.New("packet identifier twice in the window of " + st.ClientID)
		}
	}
	for _, x := range st.Subs {
		f, err := topic.ParseFilter(x.Filter)
		if err != nil {
			return err
		}
		s.add(newSubscription(x.Filter, x.ID, x.Options))
		if x.Owed {
			s.activate()
			s.jobs = b.addRetained(s.jobs, &retainedJob{filter: f.Filter, qos: x.Options.QoS(), id: x.ID})
		}
		b.table.Subscribe(f, route.Sub[*session]{To: s, ID: x.ID, QoS: uint8(x.Options.QoS()), Opts: s.opts(x.Options)}, true)
	}
	if st.WillArmed && st.Will != nil {
		s.setWill(st.Will)
		s.willAt = (st.Detached + int64(min(st.Will.Delay, s.expiry))) * 1e9
	}
	b.rest(s, st.Detached*1e9)
	b.registry.add(s)
	return nil
}

// closeStore ends the store; what was acknowledged is at stake.
func (b *Broker) closeStore(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := b.store.Close(ctx); err != nil {
		b.log.Error("close store", "err", err)
	}
}
