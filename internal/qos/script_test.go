package qos

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print into them; read the diff before you commit it")

// TestScripts runs testdata/*.txt. A line that begins with > is what the
// command before it prints, and is compared or, with -rewrite, written.
// Lines with # and empty ones are kept.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, string(old))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(old) {
				t.Errorf("%s: run with -rewrite if it should print this:\n%s", file, got)
			}
		})
	}
}

// driver is what a script talks to.
type driver struct {
	t   *testing.T
	s   Sender
	r   Receiver
	out []string
}

func run(t *testing.T, script string) string {
	d := &driver{t: t, s: Sender{Max: 65535}}
	var b strings.Builder
	for in := bufio.NewScanner(strings.NewReader(script)); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, ">") {
			continue
		}
		b.WriteString(line + "\n")
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		d.out = nil
		d.do(f[0], f[1:])
		for _, o := range d.out {
			b.WriteString("> " + o + "\n")
		}
	}
	return b.String()
}

func (d *driver) print(format string, a ...any) { d.out = append(d.out, fmt.Sprintf(format, a...)) }

// number is the i-th argument, 0 if there is none.
func (d *driver) number(args []string, i int) int {
	if i >= len(args) {
		return 0
	}
	n, err := strconv.Atoi(args[i])
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// text shows a slot.
func text(id uint16, x *Slot) string {
	name := "-"
	if x.Msg != nil {
		name = string(x.Msg.Topic())
	}
	state := [...]string{"free", "held", "sent", "recorded", "released"}[x.State]
	dup := ""
	if x.Flags&Resend != 0 {
		dup = " dup"
	}
	return fmt.Sprintf("%d %s q%d %s%s", id, name, x.QoS, state, dup)
}

// do is one command:
//
//	first N, max N, max-bytes N    set up the sender
//	send NAME q1|q2 [held] [SIZE]  Send
//	next, drop-oldest, unacked     Next until there is none, DropOldest, Unacked
//	puback N, pubcomp N, drop N    Ack, Drop
//	pubrec N [failed]              Record
//	hold N STATE                   Hold
//	resume MAX                     Resume
//	in-max N, publish N, pubrel N, in-resume, in-publish1, in-puback  the receiver
func (d *driver) do(cmd string, args []string) {
	n := 0
	if cmd != "send" {
		n = d.number(args, 0)
	}
	id := uint16(n)
	switch cmd {
	case "first":
		startAt(&d.s, id)
	case "max":
		d.s.Max = id
	case "max-bytes":
		d.s.MaxBytes = int32(n)
	case "send":
		d.send(args)
	case "next":
		for {
			id, x, ok := d.s.Next()
			if !ok {
				return
			}
			d.print("%s", text(id, &x))
		}
	case "drop-oldest":
		if x, ok := d.s.DropOldest(); ok {
			d.print("%s", text(0, &x))
		}
	case "unacked":
		d.s.Unacked(func(id uint16, x *Slot) bool { d.print("%s", text(id, x)); return true })
		d.print("%d live, %d queued, room %d, bytes %d and %d", d.s.Live(), d.s.Queued(), d.s.Room(), d.s.Bytes, d.s.QueueBytes)
	case "puback", "pubcomp", "drop", "pubrec", "hold":
		d.acked(cmd, id, args[1:])
	case "resume":
		d.s.Resume(id, func(id uint16) { d.print("pubrel %d", id) })
	default:
		d.receive(cmd, id)
	}
}

func (d *driver) send(args []string) {
	x := Slot{QoS: packet.QoS(args[1][1] - '0')}
	rest := args[2:]
	if len(rest) > 0 && rest[0] == "held" {
		x.State, rest = Held, rest[1:]
	}
	x.Msg = message(d.t, args[0], d.number(rest, 0))
	if id := d.s.Send(x); id != 0 {
		d.print("%d", id)
	} else {
		d.print("queued")
	}
}

func (d *driver) acked(cmd string, id uint16, rest []string) {
	var x Slot
	var ok bool
	switch cmd {
	case "puback":
		x, ok = d.s.Ack(packet.PUBACK, id)
	case "pubcomp":
		x, ok = d.s.Ack(packet.PUBCOMP, id)
	case "drop":
		x, ok = d.s.Drop(id)
	case "pubrec":
		var r Rec
		x, r = d.s.Record(id, len(rest) > 0)
		d.print("%s", [...]string{"unknown", "release", "repeat", "wait", "ended"}[r])
		return
	case "hold":
		x, ok = d.s.Hold(id, map[string]State{"held": Held, "sent": Sent, "recorded": Recorded, "released": Released}[rest[0]])
	}
	if ok {
		d.print("%s", text(id, &x))
	} else {
		d.print("not in flight")
	}
}

func (d *driver) receive(cmd string, id uint16) {
	switch cmd {
	case "in-max":
		d.r.Max = id
	case "publish":
		switch dup, ok := d.r.Publish(id); {
		case !ok:
			d.print("too many")
		case dup:
			d.print("duplicate")
		default:
			d.print("new")
		}
	case "pubrel":
		if d.r.Release(id) {
			d.print("released")
		} else {
			d.print("unknown")
		}
	case "in-publish1":
		if !d.r.Begin() {
			d.print("too many")
		}
	case "in-puback":
		d.r.End()
	case "in-resume":
		d.r.Resume()
	default:
		d.t.Fatalf("no command %q", cmd)
	}
}
