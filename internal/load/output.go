package load

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// WriteJSON writes results as one JSON object: durations are in seconds,
// latencies in microseconds, sizes in bytes.
func WriteJSON(w io.Writer, all []*Result, ratios []Ratio) error {
	out := jsonOut{Results: []jsonResult{}, Ratios: []jsonRatio{}}
	for _, r := range all {
		out.Results = append(out.Results, newJSONResult(r))
	}
	for _, x := range ratios {
		out.Ratios = append(out.Ratios, jsonRatio{x.Load, x.What, x.Rounds, x.Median, x.Least, x.Most})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

type jsonOut struct {
	Results []jsonResult `json:"results"`
	Ratios  []jsonRatio  `json:"ratios"`
}

type jsonRatio struct {
	Load   string    `json:"load"`
	What   string    `json:"what"`
	Rounds []float64 `json:"rounds"`
	Median float64   `json:"median"`
	Least  float64   `json:"least"`
	Most   float64   `json:"most"`
}

type jsonResult struct {
	Name   string   `json:"name"`
	Broker string   `json:"broker"`
	Round  int      `json:"round"`
	Plan   jsonPlan `json:"plan"`

	Connections int        `json:"connections"`
	Opening     float64    `json:"opening_seconds"`
	Opened      *jsonTimes `json:"connect_us,omitempty"`

	Seconds      float64    `json:"measured_seconds"`
	Sent         uint64     `json:"sent"`
	Acked        uint64     `json:"acknowledged"`
	Received     uint64     `json:"received"`
	PerSecond    float64    `json:"per_second"`
	Intended     uint64     `json:"intended,omitempty"`
	Latency      *jsonTimes `json:"latency_us,omitempty"`
	Uncorrected  *jsonTimes `json:"latency_uncorrected_us,omitempty"`
	Ack          *jsonTimes `json:"acknowledgement_us,omitempty"`
	AckUncorrect *jsonTimes `json:"acknowledgement_uncorrected_us,omitempty"`
	Lag          *jsonTimes `json:"generator_lag_us,omitempty"`
	Busy         *float64   `json:"generator_busy,omitempty"`
	Behind       string     `json:"generator_too_slow,omitempty"`

	Lost       uint64      `json:"lost"`
	Duplicated uint64      `json:"duplicated"`
	Reordered  uint64      `json:"out_of_order"`
	Unacked    uint64      `json:"unacknowledged"`
	Refused    uint64      `json:"refused"`
	Failed     uint64      `json:"failed"`
	Strays     uint64      `json:"strays"`
	Broken     uint64      `json:"broken_connections"`
	Return     *jsonReturn `json:"return,omitempty"`
	Usage      *jsonUsage  `json:"broker_use,omitempty"`
	Error      string      `json:"error,omitempty"`
}

type jsonPlan struct {
	Load        Kind    `json:"load"`
	Clients     int     `json:"clients"`
	Publishers  int     `json:"publishers"`
	Subscribers int     `json:"subscribers"`
	Topics      int     `json:"topics"`
	Size        int     `json:"size"`
	QoS         int     `json:"qos"`
	Rate        float64 `json:"rate"`
	Window      int     `json:"window"`
	Duration    float64 `json:"duration_seconds"`
	WarmUp      float64 `json:"warm_up_seconds"`
	Ramp        float64 `json:"ramp_seconds"`
	Count       uint64  `json:"count"`
}

type jsonTimes struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	P9999 float64 `json:"p99_99"`
	Max   float64 `json:"max"`
}

type jsonReturn struct {
	Sessions  int     `json:"sessions"`
	Received  uint64  `json:"received"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

type jsonUsage struct {
	CPU     float64 `json:"cpu_seconds"`
	Message float64 `json:"cpu_us_per_message"`
	RSS     int64   `json:"rss_bytes"`
	Peak    int64   `json:"peak_rss_bytes"`
	Each    int64   `json:"rss_bytes_per_connection"`
}

func newJSONResult(r *Result) jsonResult {
	p, f := &r.Plan, r.Faults
	j := jsonResult{
		Name: p.Name, Broker: r.Broker, Round: r.Round + 1,
		Plan: jsonPlan{
			p.Load, p.Clients, p.Publishers, p.Subscribers, p.Topics, p.Size, int(p.QoS), p.Rate, p.Window,
			p.Duration.Seconds(), p.WarmUp.Seconds(), p.Ramp.Seconds(), p.Count,
		},
		Connections: r.Connections, Opening: r.Opening.Seconds(), Opened: times(r.Opened),
		Seconds: r.Measured.Seconds(), Sent: r.Sent, Acked: r.Acked, Received: r.Received, PerSecond: r.Rate(), Intended: r.Intended,
		Latency: times(r.Latency.Corrected), Lag: times(r.Lag), Behind: r.Behind(),
		Lost: f.Lost, Duplicated: f.Duplicated, Reordered: f.Reordered, Unacked: f.Unacked,
		Refused: f.Refused, Failed: f.Failed, Strays: f.Strays, Broken: f.Broken,
	}
	if p.receivers() > 0 && p.Messages() {
		j.Ack = times(r.Ack.Corrected)
	}
	if p.Open() {
		j.Uncorrected = times(r.Latency.Raw)
		if j.Ack != nil {
			j.AckUncorrect = times(r.Ack.Raw)
		}
	}
	if r.Busy >= 0 {
		j.Busy = &r.Busy
	}
	if x := r.Return; x != nil {
		j.Return = &jsonReturn{x.Sessions, x.Received, x.Took.Seconds(), float64(x.Received) / max(x.Took.Seconds(), 1e-9)}
	}
	if u := r.Usage; u != nil {
		j.Usage = &jsonUsage{u.CPU.Seconds(), float64(u.Message) / 1e3, u.RSS, u.Peak, u.Each}
	}
	if err := r.Failed(); err != nil {
		j.Error = err.Error()
	}
	return j
}

func times(h *hdrhistogram.Histogram) *jsonTimes {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1e3 }
	return &jsonTimes{h.TotalCount(), h.Mean() / 1e3, at(50), at(90), at(95), at(99), at(99.9), at(99.99), float64(h.Max()) / 1e3}
}

// WriteCSV writes a row for each interval of the results.
func WriteCSV(w io.Writer, all []*Result) error {
	c := csv.NewWriter(w)
	row := []string{"load", "broker", "round", "phase", "end_seconds", "seconds", "connections", "sent", "acknowledged", "received"}
	for _, p := range Percentiles() {
		row = append(row, percentileName(p)+"_us")
	}
	for _, p := range Percentiles() {
		row = append(row, percentileName(p)+"_uncorrected_us")
	}
	row = append(row, "duplicated", "out_of_order", "broken_connections", "broker_cpu_seconds", "broker_rss_bytes")
	if err := c.Write(row); err != nil {
		return err
	}
	for _, r := range all {
		for _, i := range r.Intervals {
			if err := c.Write(i.row()); err != nil {
				return err
			}
		}
	}
	c.Flush()
	return c.Error()
}

func (i *Interval) row() []string {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	seconds := func(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }
	row := []string{
		i.Load, i.Broker, strconv.Itoa(i.Round + 1), i.Phase, seconds(i.End.Seconds()), seconds(i.Length.Seconds()),
		strconv.Itoa(i.Connections), count(i.Sent), count(i.Acked), count(i.Received),
	}
	for _, q := range []Quantiles{i.Corrected, i.Raw} {
		for _, ns := range q.At {
			v := ""
			if q.Count > 0 {
				v = strconv.FormatFloat(float64(ns)/1e3, 'f', 1, 64)
			}
			row = append(row, v)
		}
	}
	cpu, rss := "", ""
	if i.CPU >= 0 {
		cpu, rss = seconds(i.CPU.Seconds()), strconv.FormatInt(i.RSS, 10)
	}
	return append(row, count(i.Duplicated), count(i.Reordered), count(i.Broken), cpu, rss)
}

// Series are the merged latencies of a load on a broker.
type Series struct {
	Load, Broker string
	Latency      Times
}

// Merge puts the rounds of each load on each broker together.
func Merge(all []*Result) (out []Series) {
	for _, r := range all {
		if r.Latency.Corrected == nil {
			continue
		}
		at := -1
		for i := range out {
			if out[i].Load == r.Plan.Name && out[i].Broker == r.Broker {
				at = i
			}
		}
		if at < 0 {
			at = len(out)
			out = append(out, Series{r.Plan.Name, r.Broker, newTimes()})
		}
		out[at].Latency.Merge(r.Latency)
	}
	return out
}

// WriteHgrm writes the percentile distribution as HdrHistogram's tools read it, in
// microseconds, from when messages were due.
func (s *Series) WriteHgrm(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "#[load %q on %q, latency in microseconds]\n", s.Load, s.Broker); err != nil {
		return err
	}
	_, err := s.Latency.Corrected.PercentilesPrint(w, 5, 1000)
	return err
}
