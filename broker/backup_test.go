package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// TestBackup: a broker that starts from a copy, made under load, has everything
// that was acknowledged before.
func TestBackup(t *testing.T) {
	for _, durability := range []string{"fsync", "async"} {
		t.Run(durability, func(t *testing.T) {
			o := Options{DataDir: t.TempDir(), Durability: durability, SysInterval: -1, ShutdownGrace: 3 * time.Second, Queue: QueueOptions{MaxMessages: -1, MaxBytes: -1}}
			r := start(t, o)
			a, _ := r.connect(packet.Connect{ClientID: "away", SessionExpiry: 1000})
			a.subscribe("q/#", 1)
			a.c.Close()
			p := r.client("p")
			p.acked(pub(packet.Message{Topic: "kept", Payload: []byte("yes"), QoS: 1, Retain: true}, 9))
			const before = 300
			for i := range before / 2 {
				p.acked(message(fmt.Sprint("q/", i), fmt.Sprint(i), 1, 1))
			}
			stop, gone := make(chan struct{}), make(chan struct{})
			go func() { // the load
				defer close(gone)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := r.Publish(context.Background(), Message{Topic: "q/load", Payload: []byte("load"), QoS: 1}); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			for i := before / 2; i < before; i++ {
				p.acked(message(fmt.Sprint("q/", i), fmt.Sprint(i), 1, 1))
			}
			to := filepath.Join(t.TempDir(), "copy")
			err := r.Backup(t.Context(), to)
			close(stop)
			<-gone
			if err != nil {
				t.Fatal(err)
			}
			p.acked(message("q/after", "after", 1, 1)) // the broker goes on
			r.stop()
			if err := r.Backup(t.Context(), to+"2"); !errors.Is(err, ErrClosed) {
				t.Errorf("after the end: %v", err)
			}

			o.DataDir = to
			r = start(t, o)
			a, ack := r.connect(packet.Connect{ClientID: "away", SessionExpiry: 1000})
			if !ack.SessionPresent {
				t.Fatal("the session is not in the copy")
			}
			for next := 0; next < before; {
				m := expect[*packet.Publish](a)
				a.send(puback(m.ID))
				if body := string(m.Payload()); body != "load" {
					if body != fmt.Sprint(next) {
						t.Fatalf("got %s, want %d", body, next)
					}
					next++
				}
			}
			c := r.client("c")
			c.subscribe("kept", 1)
			if m := expect[*packet.Publish](c); string(m.Payload()) != "yes" {
				t.Errorf("retained: %s", m.Payload())
			}
		})
	}
}

func TestBackupOfMemory(t *testing.T) {
	r := start(t, Options{Durability: "memory"})
	if err := r.Backup(t.Context(), filepath.Join(t.TempDir(), "x")); !errors.Is(err, ErrInMemory) {
		t.Error(err)
	}
}

// TestQueues: who holds how much, with and without a connection.
func TestQueues(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	for i, id := range []string{"a", "b", "c"} {
		p, _ := r.connect(packet.Connect{ClientID: id, SessionExpiry: 1000})
		for k := range i + 1 {
			p.subscribe(fmt.Sprint("q/", k), 1)
		}
		p.c.Close()
	}
	here, _ := r.connect(packet.Connect{ClientID: "here", SessionExpiry: 1000})
	here.subscribe("here", 1) // and acknowledges nothing
	p := r.client("p")
	p.acked(message("q/0", "1", 1, 1))        // a b c
	p.acked(message("q/1", "22", 1, 2))       // b c
	p.acked(message("q/2", "333", 1, 3))      // c
	p.acked(message("here", "0123456", 1, 4)) // here
	expect[*packet.Publish](here)
	eventually(t, "the clients are away", func() bool { return r.Stats().Connected == 2 })
	q := r.Queues(ByMessages, 2)
	want := Queues{Holders: 4, Messages: 7, Bytes: 3*4 + 2*5 + 6 + 11, Top: []Holder{{"c", 3, 15, false}, {"b", 2, 9, false}}}
	if fmt.Sprint(q) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", q, want)
	}
	if q := r.Queues(ByBytes, 100); len(q.Top) != 4 || q.Top[1] != (Holder{"here", 1, 11, true}) || q.Top[3].ClientID != "a" {
		t.Errorf("by bytes: %v", q.Top)
	}
	if q := r.Queues(ByBytes, 0); q.Holders != 4 || len(q.Top) != 0 {
		t.Errorf("none: %v", q)
	}
}
