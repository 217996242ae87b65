package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/myelin-mqtt/myelin/packet"
)

// Result is what one run of one load on one broker gave. What a load does not
// measure is zero or nil.
type Result struct {
	Plan   Plan
	Broker string // Target.Name
	Round  int    // from 0

	// Connections that were opened before the load began, how long that took, and
	// each of them, TCP and TLS included.
	Connections int
	Opening     time.Duration
	Opened      *hdrhistogram.Histogram

	// Measured is how long was measured, and what follows was counted in it:
	// messages given to the client, acknowledged, and delivered; or operations.
	Measured              time.Duration
	Sent, Acked, Received uint64
	// Intended is how many were due in it, in an open loop.
	Intended uint64
	// Latency is that of what the load is about: delivery, or the acknowledgement
	// where nobody receives, or the operation. Ack is that of acknowledgements.
	Latency, Ack Times
	// Lag is how much later than due messages were given to the client: the
	// generator's own. Open loop only.
	Lag *hdrhistogram.Histogram

	// Whole: the run came to its end, so that Faults.Lost is known.
	Whole bool
	// Faults are of the whole run, warm-up included.
	Faults Faulty
	// Return tells of the sessions that came back; nil: none were away.
	Return *Return
	// Usage is the broker's; nil: not asked for.
	Usage *Usage
	// Busy is how much of the generator's processors it used, from 0 to 1;
	// negative: unknown.
	Busy float64

	Intervals []Interval
	// Err is why the run ended early; nil: it did not.
	Err error
}

// Faulty counts what should not be.
type Faulty struct {
	Lost       uint64 // neither delivered nor refused
	Duplicated uint64
	Reordered  uint64 // overtaken by a later message of the same publisher and topic
	Unacked    uint64 // not acknowledged when the grace was over
	Refused    uint64 // acknowledged with a failure
	Failed     uint64 // given up by the client, or an operation that failed
	Strays     uint64 // messages that nobody sent to this receiver
	Broken     uint64 // connections
	First      error  // the first that was refused, failed, or broke
}

// Return is how the sessions that were away got their messages.
type Return struct {
	Sessions int
	Received uint64
	Took     time.Duration // from the first connection to the last message
}

// Usage is what the broker used.
type Usage struct {
	CPU     time.Duration // while it was measured
	Message time.Duration // CPU for each message that was delivered (or sent, where nobody receives)
	RSS     int64         // resident bytes when the measuring ended
	Peak    int64         // the most that was seen resident
	Each    int64         // resident bytes for each connection, more than before them
}

// Interval is a second of a run, or what is left of one where a phase ends.
type Interval struct {
	Load   string
	Broker string
	Round  int
	Phase  string        // see the phases
	End    time.Duration // since the run began
	Length time.Duration

	Sent, Acked, Received uint64 // in it
	Connections           int    // open
	Duplicated, Reordered uint64 // since the run began
	Broken                uint64 // since the run began
	// Corrected and Raw are of what came in it. While it warms up there is none.
	Corrected, Raw Quantiles
	// CPU and RSS are the broker's, negative: unknown.
	CPU time.Duration
	RSS int64
}

// The phases of a run.
const (
	PhaseConnect = "connect"
	PhaseWarmUp  = "warm-up"
	PhaseMeasure = "measure"
	PhaseDrain   = "drain"
	PhaseReturn  = "return"
)

// Rate is how many of what the load counts there were a second.
func (r *Result) Rate() float64 {
	if r.Measured <= 0 {
		return 0
	}
	return float64(r.counted()) / r.Measured.Seconds()
}

// counted is what the load counts: deliveries, or what was sent where nobody
// receives while it runs.
func (r *Result) counted() uint64 {
	switch {
	case r.Plan.receivers() > 0 && r.Plan.Messages():
		return r.Received
	case r.Plan.Messages() && r.Plan.QoS > 0:
		return r.Acked
	}
	return r.Sent
}

// Failed is why the run makes the program's exit status 1, nil: it does not. A
// message of QoS 0 may be lost, one of QoS 0 or 1 may come twice.
func (r *Result) Failed() error {
	f := r.Faults
	switch {
	case r.Err != nil:
		return r.Err
	case f.Lost > 0 && r.Plan.QoS > 0:
		return fmt.Errorf("%d messages of QoS %d were lost", f.Lost, r.Plan.QoS)
	case f.Duplicated > 0 && r.Plan.QoS == packet.ExactlyOnce:
		return fmt.Errorf("%d messages of QoS 2 came more than once", f.Duplicated)
	case f.Unacked > 0:
		return fmt.Errorf("%d messages were not acknowledged", f.Unacked)
	case f.Refused > 0:
		return fmt.Errorf("%d messages were refused: %w", f.Refused, f.First)
	case f.Broken > 0:
		return fmt.Errorf("%d connections broke: %w", f.Broken, f.First)
	case f.Failed > 0:
		return fmt.Errorf("%d %s failed: %w", f.Failed, r.Plan.unit(), f.First)
	case r.Plan.Load != Idle && r.counted() == 0:
		return fmt.Errorf("nothing was measured in %v", r.Plan.Duration)
	}
	return nil
}

// Behind tells that the generator did not keep an open loop's rate: why, or "".
func (r *Result) Behind() string {
	if !r.Plan.Open() || r.Lag == nil || r.Err != nil {
		return ""
	}
	if short := r.Intended - min(r.Sent, r.Intended); float64(short) > float64(r.Intended)/100 {
		return fmt.Sprintf("of %d %s that were due %d were not sent", r.Intended, r.Plan.unit(), short)
	}
	if late := time.Duration(r.Lag.ValueAtPercentile(99)); late > lagLimit {
		return fmt.Sprintf("one in a hundred left %v or more after it was due", late.Round(10*time.Microsecond))
	}
	return ""
}

// lagLimit is a lag that spoils what is measured.
const lagLimit = 5 * time.Millisecond
