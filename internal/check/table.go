package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// row is a check.
type row struct {
	group, name string
	about       string // what it looks at
	alone       bool   // it measures times, so that nothing else should run
	f           func(context.Context, *trial) error
}

// table lists the checks in the order in which they are told of.
func table() []row {
	return []row{
		{"connection", "tls", "TLS version, cipher, certificate chain, days left, ALPN", false, tlsDetails},
		{"connection", "version-3.1", "MQTT 3.1", false, version31},
		{"connection", "version-3.1.1", "MQTT 3.1.1", false, version311},
		{"connection", "version-5.0", "MQTT 5.0", false, version5},
		{"connection", "version-unknown", "a version that there is not is refused", false, versionUnknown},
		{"connection", "connack", "the limits that the CONNACK tells", false, connackLimits},
		{"connection", "ping", "PINGREQ is answered, timed", true, pingPong},
		{"connection", "keep-alive", "pings keep a connection, silence ends it", false, keepAlive},
		{"connection", "client-id-empty", "a client identifier assigned by the server", false, clientIDEmpty},
		{"connection", "takeover", "a second connection of a client ends the first", false, takeover},

		{"messages", "qos-0", "round trips, timed", true, qos0},
		{"messages", "qos-1", "round trips, timed", true, qos1},
		{"messages", "qos-2", "round trips, timed", true, qos2},
		{"messages", "qos-granted", "the lower of the publisher's and the subscription's QoS", false, qosGranted},
		{"messages", "exactly-once", "a QoS 2 message sent twice arrives once", false, exactlyOnce},
		{"messages", "order", "a burst at each QoS arrives in its order", false, order},
		{"messages", "utf-8", "topics beyond ASCII, and empty levels", false, utf8Topics},
		{"messages", "properties", "user properties, content type, format pass through", false, properties},
		{"messages", "request-response", "response topic and correlation data, there and back", false, requestResponse},
		{"messages", "message-expiry", "the interval counts down, and ends a message", false, messageExpiry},
		{"messages", "topic-alias", "aliases from the client", false, topicAlias},
		{"messages", "topic-alias-server", "aliases from the server stay within the client's limit", false, topicAliasServer},

		{"retained", "retained", "set, got, replaced, cleared", false, retained},
		{"retained", "retain-handling", "0 always, 1 if new, 2 never", false, retainHandling},
		{"retained", "retain-as-published", "RETAIN as the publisher set it", false, retainAsPublished},

		{"subscriptions", "wildcard-plus", "+ is one level", false, wildcardPlus},
		{"subscriptions", "wildcard-hash", "# is all below, and the level above", false, wildcardHash},
		{"subscriptions", "dollar-topics", "wildcards in front do not show $-topics", false, dollarTopics},
		{"subscriptions", "overlap", "overlapping subscriptions: one copy or several", false, overlap},
		{"subscriptions", "replace", "the same filter again replaces the subscription", false, replace},
		{"subscriptions", "unsubscribe", "ends a subscription", false, unsubscribe},
		{"subscriptions", "no-local", "a client's own messages are kept away from it", false, noLocal},
		{"subscriptions", "identifiers", "messages carry subscription identifiers", false, identifiers},
		{"subscriptions", "shared", "$share gives each message to one member", false, shared},

		{"sessions", "session-resume", "messages of QoS 1 and 2 wait for a client that is away", false, sessionResume},
		{"sessions", "session-resend", "what was not acknowledged comes again", false, sessionResend},
		{"sessions", "session-release", "QoS 2 to the client goes on where it was cut", false, sessionRelease},
		{"sessions", "session-receive", "QoS 2 from the client goes on where it was cut", false, sessionReceive},
		{"sessions", "session-expiry", "a session ends when its interval has passed", false, sessionExpires},
		{"sessions", "session-end", "a session without an interval ends at once", false, sessionEnd},
		{"sessions", "clean-start", "begins without what was there", false, cleanStart},

		{"will", "will", "published when the connection is cut", false, will},
		{"will", "will-discarded", "not published after a normal DISCONNECT", false, willDiscarded},
		{"will", "will-disconnect", "published after DISCONNECT with 0x04", false, willDisconnect},
		{"will", "will-retained", "retained if it says so", false, willRetained},
		{"will", "will-delay", "waits for its delay, and for nothing if the client is back", false, willDelay},

		{"limits", "payload", "the longest payload, up to --max-payload", false, longestPayload},
		{"limits", "topic-length", "the longest topic name", false, longestTopic},
		{"limits", "topic-levels", "the most levels of a topic name", false, mostLevels},
		{"limits", "client-id-length", "the longest client identifier", false, longestClientID},
		{"limits", "receive-maximum", "the server keeps the client's", false, receiveMaximum},
		{"limits", "receive-maximum-server", "as many as the server says can be in flight to it", false, receiveMaximumServer},
		{"limits", "packet-size", "the server keeps the client's maximum", false, packetSize},
		{"limits", "packet-size-server", "a longer packet than the server allows is refused", false, packetSizeServer},
		{"limits", "alias-maximum", "the highest alias is taken, a higher one refused", false, aliasMaximum},
		{"limits", "maximum-qos", "more than the server's Maximum QoS is refused", false, maximumQoS},
		{"limits", "retain-unavailable", "retained messages are refused where there are none", false, retainUnavailable},

		{"errors", "second-connect", "a second CONNECT ends the connection", false, bad(secondConnect)},
		{"errors", "no-connect", "so does a first packet that is no CONNECT", false, bad(noConnect)},
		{"errors", "protocol-name", "so does another protocol's name", false, bad(protocolName)},
		{"errors", "connect-flag", "so does the reserved flag of CONNECT", false, bad(connectFlag)},
		{"errors", "reserved-flags", "so do wrong flags in a fixed header", false, bad(reservedFlags)},
		{"errors", "qos-3", "so does QoS 3", false, bad(qos3)},
		{"errors", "packet-id-0", "so does packet identifier 0", false, bad(packetID0)},
		{"errors", "no-filter", "so does a SUBSCRIBE without a filter", false, bad(noFilter)},
		{"errors", "null-character", "so does U+0000 in a topic name", false, bad(nullCharacter)},
		{"errors", "unknown-alias", "so does a topic alias that stands for nothing", false, bad(unknownAlias)},
		{"errors", "topic-wildcard", "a wildcard in a topic name is refused", false, topicWildcard},
		{"errors", "filter-invalid", "a wrong topic filter is refused", false, filterInvalid},
	}
}

// Entry is a check in List.
type Entry struct{ Name, Group, About string }

// List is all checks, in their order.
func List() []Entry {
	var all []Entry
	for _, r := range table() {
		all = append(all, Entry{r.name, r.group, r.about})
	}
	return all
}

// choose is the rows that are in only, or all where it is empty, without those
// in skip.
func choose(only, skip []string) ([]row, error) {
	rows := table()
	for _, name := range slices.Concat(only, skip) {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.is(name) }) {
			return nil, &NameError{Name: name}
		}
	}
	rows = slices.DeleteFunc(rows, func(r row) bool {
		return len(only) > 0 && !slices.ContainsFunc(only, r.is) || slices.ContainsFunc(skip, r.is)
	})
	if len(rows) == 0 {
		return nil, fmt.Errorf("nothing is left of %s", strings.Join(only, ", "))
	}
	return rows, nil
}

// is says whether the row is meant by the name of a check or a group.
func (r row) is(name string) bool { return r.name == name || r.group == name }

// NameError is a name in Options.Only or Skip that no check and no group has.
type NameError struct{ Name string }

// Error names it.
func (e *NameError) Error() string { return fmt.Sprintf("there is no check %q", e.Name) }
