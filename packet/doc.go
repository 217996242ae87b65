// Package packet is the wire format of MQTT 3.1, 3.1.1 and 5.0: it turns bytes into control packets and control
// packets into bytes, for both ends of a connection.
//
// It holds the formats and every rule that one packet alone can break: reserved bits, lengths, UTF-8, which properties
// and reason codes a packet may carry. It does not hold rules that need a session, a clock or a peer (is this alias
// known, is this identifier in use, may this end send this packet), nor the grammar of topic filters. It does no
// I/O, starts no goroutine and imports only the standard library.
//
// Where to start: [Frame] finds a packet at the front of a buffer. [Publish] is the one that matters for speed: a
// view of offsets into the buffer that allocates nothing, with [Publish.Keep] as the way to keep it and [Encoder] as
// the way to send it to many. [ParseAck] and [AppendAck] are its four answers without an allocation. Every other packet
// is a plain struct with three verbs, Parse, Append and Length, that copies what it takes from the buffer. [Parse]
// reads any packet, for clients and tools.
//
// The version is an argument of each verb, never a second tree of types. A struct describes the packet in terms of
// version 5.0; what an older version cannot say is left out on the wire.
//
// Files, in the order of the flow: frame.go, wire.go (integers, strings), properties.go, reason.go, errors.go, then
// one file for each control packet, and encoder.go.
package packet
