package show

import (
	"github.com/myelin-mqtt/myelin/client"
)

// Style is how a Printer writes a message.
type Style uint8

// The styles.
const (
	Payload Style = iota // the payload as it came
	Verbose              // the topic, a space, and the payload
	JSON                 // see AppendJSON
	Hex                  // a line with topic and length, then a dump of the payload
	Custom               // Printer.Format
)

// Printer writes messages. The zero value prints payloads, each on a line.
type Printer struct {
	Style  Style
	Format *Format
	// NoNewline ends no line behind the message; a dump ends its own.
	NoNewline bool
	// Clean makes control characters of topics, payloads and properties visible,
	// for a terminal, which would obey them. Those of the Format itself stay.
	Clean bool
}

// Append adds the message to b. The error is of a Format that wants a payload
// to be what it is not, and then nothing is added.
func (p *Printer) Append(b []byte, m *client.Received) ([]byte, error) {
	switch p.Style {
	case JSON:
		b = AppendJSON(b, m)
	case Hex:
		return appendDump(b, m), nil
	case Custom:
		longer, err := p.Format.Append(b, m, p.Clean)
		if err != nil {
			return b, err
		}
		b = longer
	case Verbose:
		b = p.text(b, m.Topic)
		b = append(b, ' ')
		b = p.payload(b, m.Payload)
	default:
		b = p.payload(b, m.Payload)
	}
	if !p.NoNewline {
		b = append(b, '\n')
	}
	return b, nil
}

func (p *Printer) text(b []byte, s string) []byte {
	if p.Clean {
		return AppendClean(b, s)
	}
	return append(b, s...)
}

func (p *Printer) payload(b, payload []byte) []byte {
	if p.Clean {
		return AppendCleanLines(b, payload)
	}
	return append(b, payload...)
}
