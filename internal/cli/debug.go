package cli

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// trace has every packet, step of connecting and change of state told on
// standard error, with the time since the start.
func (f *clientFlags) trace(o *client.Options) {
	o.Trace.Packet = func(e client.PacketEvent) {
		arrow := "<-"
		if e.Sent {
			arrow = "->"
		}
		text := ""
		if p, _, err := packet.Parse(e.Bytes, 0, e.Version); err == nil && p != nil {
			text = p.String()
		} else {
			text = fmt.Sprintf("%s, %d bytes: %v", packet.FrameType(e.Bytes), len(e.Bytes), err)
		}
		f.debugf(e.At, "%s %s", arrow, text)
	}
	o.Trace.Phase = func(e client.PhaseEvent) {
		if e.Err != nil {
			f.debugf(e.End, "%s %s failed after %s: %v", e.Phase, e.Address, e.End.Sub(e.Begin).Round(time.Microsecond), e.Err)
			return
		}
		f.debugf(e.End, "%s %s took %s", e.Phase, e.Address, e.End.Sub(e.Begin).Round(time.Microsecond))
	}
	o.OnState = func(e client.StateEvent) {
		switch e.State {
		case client.Connecting:
			f.debugf(e.At, "connecting to %s, attempt %d", e.Server, e.Attempt)
		case client.Connected:
			f.debugf(e.At, "connected to %s, session present: %t", e.Server, e.SessionPresent)
		case client.Waiting:
			f.debugf(e.At, "not connected (%v), next attempt in %s", e.Err, e.Retry.Round(time.Millisecond))
		}
	}
}

func (f *clientFlags) debugf(at time.Time, format string, args ...any) {
	fmt.Fprintf(f.messages, "myelin: debug: %8.3fms "+format+"\n", append([]any{float64(at.Sub(f.start).Microseconds()) / 1000}, args...)...)
}

// closedPipe marks a write to a pipe that nobody reads.
func closedPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return errPipe
	}
	return err
}

// readAll reads what is at most that long.
func readAll(r io.Reader, most int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > most:
		return nil, &hinted{err: fmt.Errorf("it is longer than %d bytes", most), hint: "is it the right file?", code: exitLimit}
	}
	return b, nil
}
