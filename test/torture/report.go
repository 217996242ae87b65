package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

func (t *torture) receipts() int {
	_, n := t.ledger.missing()
	return n
}

// faults is how many were found.
func (t *torture) faults() (n int) {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	for _, c := range t.ledger.counts {
		n += c
	}
	return n
}

// report prints the account.
func (t *torture) report(out io.Writer) {
	g := t.ledger
	sent, acked, rows := g.rows()
	restarts := slices.Sorted(slices.Values(t.restarts[1:]))
	fmt.Fprintf(out, "\n%d kills and %d more during the start, in %v\n", len(restarts), t.early, time.Since(t.began).Round(time.Second))
	if len(restarts) > 0 {
		fmt.Fprintf(out, "restart, until an old session is taken up: median %v, longest %v\n",
			restarts[len(restarts)/2].Round(time.Millisecond), restarts[len(restarts)-1].Round(time.Millisecond))
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "published at\tdelivered at\tsent\tacknowledged\towed\tdelivered\tlost\tduplicated\tout of order\t")
	for _, kind := range [][2]packet.QoS{{1, 1}, {2, 1}, {2, 2}} {
		r := rows[kind]
		fmt.Fprintf(w, "QoS %d\tQoS %d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
			kind[0], kind[1], sent[kind[0]], acked[kind[0]], r.owed, r.delivered, r.lost, r.again, r.disorders)
	}
	w.Flush()
	wills := 0
	if t.mourner != nil {
		wills = t.mourner.wills
	}
	fmt.Fprintf(out, "\nsessions taken up again: %d, wrong: %d\n", g.resumed, g.counts[session])
	fmt.Fprintf(out, "retained messages checked: %d, wrong: %d\n", t.keeper.checked, g.counts[retention])
	fmt.Fprintf(out, "subscriptions checked: %d, wrong: %d; sessions ended: %d; wills of killed connections: %d\n", t.prober.probes, g.counts[subscribed], t.prober.ends, wills)
	fmt.Fprintln(out, "(owed and delivered count each subscriber; duplicates are allowed where QoS 1 is delivered, nowhere else)")
	for f := range faults {
		if g.counts[f] == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%v: %d\n", f, g.counts[f])
		for _, line := range g.told[f] {
			fmt.Fprintln(out, "   ", line)
		}
	}
}

// verdict is an error if the run did not go as it must.
func (t *torture) verdict() error {
	n := t.faults()
	switch {
	case t.o.expectLoss && t.ledger.counts[lost] == 0:
		return errors.New("nothing was lost, though loss was expected")
	case t.o.expectLoss || n == 0:
		return nil
	default:
		return fmt.Errorf("%d faults", n)
	}
}
