package cli

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-mqtt/myelin/packet"
)

// clientFlags say how a client connects. The names and letters are those of
// Mosquitto's clients where these have the flag.
type clientFlags struct {
	process  Process
	command  *cobra.Command
	start    time.Time
	args     []string // of the command, without flags
	out      *output  // standard output
	messages *output  // standard error

	config string

	urls         []string
	host         string
	port         uint16
	unix, ws     string
	bind         string
	ipv4, ipv6   bool
	header       []string
	version      string
	id, idPrefix string
	username     string
	password     string
	passwordFile string

	keepAlive      time.Duration
	keepSession    bool
	sessionExpiry  time.Duration
	connectTimeout time.Duration
	reconnect      bool

	receiveMaximum uint16
	maxInflight    uint16
	maxPacket      uint32
	aliasMaximum   int
	aliases        int
	connectUser    []packet.UserProperty
	properties     []string

	tls  tlsFlags
	will willFlags

	debug bool

	sinks map[string]map[string]sink // of -D, for the packets that the command sends
}

// tlsFlags say whom to trust and who to be.
type tlsFlags struct {
	on              bool
	caFile, caPath  string
	cert, key, p12  string
	keyPassword     string
	keyPasswordFile string
	version         string
	alpn            []string
	serverName      string
	insecure        bool
}

// willFlags are the will.
type willFlags struct {
	payload string
	delay   time.Duration
	message messageFlags
}

// messageFlags are the flags of a message that is published: the command's, or
// the will.
type messageFlags struct {
	topic         string
	qos           packet.QoS
	retain        bool
	contentType   string
	responseTopic string
	correlation   string
	expiry        time.Duration
	payloadFormat byte
	user          []packet.UserProperty

	hasCorrelation, hasExpiry bool
}

func (f *clientFlags) register(c *cobra.Command) {
	f.registerServer(sharedGroup(c, "Server"))
	f.registerClient(sharedGroup(c, "Client and session"))
	f.tls.register(sharedGroup(c, "TLS"))
	f.will.register(sharedGroup(c, "Will: what the server publishes when the connection breaks"))
	g := sharedGroup(c, "MQTT 5 properties and limits of the connection")
	number(g, &f.receiveMaximum, 0, math.MaxUint16, "receive-maximum", "", "messages of QoS 1 and 2 that the server may have under way to this client; 0: 256")
	number(g, &f.maxInflight, 0, math.MaxUint16, "max-inflight", "M", "messages of QoS 1 and 2 that this client has under way; 0: 1024")
	number(g, &f.maxPacket, 0, packet.MaxSize, "maximum-packet-size", "", "longest packet to take, in bytes; 0: 16 MiB")
	f.aliasMaximum, f.aliases = 16, 16
	number(g, &f.aliasMaximum, 0, math.MaxUint16, "topic-alias-maximum", "", "topic aliases that the server may use")
	number(g, &f.aliases, 0, math.MaxUint16, "topic-aliases", "", "topic aliases that this client uses, of those that the server allows")
	g.user(&f.connectUser, "connect-user-property", "user property of the CONNECT; can be given several times")
	g.list(&f.properties, "command property value", checkProperty, "property", "D", "a property as Mosquitto's clients have it, such as -D publish content-type text/plain; can be given several times")
	g = sharedGroup(c, "Other")
	g.toggle(&f.debug, "debug", "d", "tell on standard error of every packet and every step of connecting")
	g.file(&f.config, configFlag, "", "client configuration `file`, YAML (environment: MYELIN_CLIENT_CONFIG)")
	f.noHelpLetter(c)
}

// noHelpLetter adds --help before cobra does, which would give it the letter of
// --host.
func (f *clientFlags) noHelpLetter(c *cobra.Command) {
	c.Flags().Bool("help", false, "this help; -h is the host")
	sharedGroup(c, "Other").annotate(c.Flags().Lookup("help"), annotGroup, "Other")
}

func (f *clientFlags) registerServer(g flagGroup) {
	g.list(&f.urls, "URL", nil, "url", "L", "server and topic: mqtt://host:port/topic, mqtts://, ws://host:port/path, wss:// or unix:///path; given several times, they are tried in this order")
	f.host = "localhost"
	g.text(&f.host, "host", "h", "`host` name or address of the server")
	number(g, &f.port, 1, math.MaxUint16, "port", "p", "`port` of the server (default 1883, with TLS 8883)")
	g.set.Lookup("port").DefValue = "0" // the text says it
	g.file(&f.unix, "unix", "", "`path` of the server's Unix socket")
	g.text(&f.ws, "ws", "", "`path` for WebSocket, such as /mqtt, on --host and --port")
	g.list(&f.header, "NAME:VALUE", checkHeader, "header", "", "header of the WebSocket request; can be given several times")
	g.text(&f.bind, "bind", "A", "`address` of this machine to connect from")
	g.toggle(&f.ipv4, "ipv4", "4", "use IPv4 only")
	g.toggle(&f.ipv6, "ipv6", "6", "use IPv6 only")
	f.connectTimeout = 10 * time.Second
	g.seconds(&f.connectTimeout, "connect-timeout", "", "longest time for a connection, from the name to the CONNACK")
	g.toggle(&f.reconnect, "reconnect", "", "connect again when the connection breaks")
	g.exclude("url", "host", "unix")
	for _, n := range []string{"port", "ws"} {
		g.exclude("url", n)
		g.exclude("unix", n)
	}
	g.exclude("ipv4", "ipv6")
}

func (f *clientFlags) registerClient(g flagGroup) {
	g.text(&f.username, "username", "u", "user `name`")
	g.file(&f.passwordFile, "password-file", "", "`file` that holds the password; or set MYELIN_PASSWORD")
	g.secret(&f.password, "password", "P", "refused: see --password-file")
	var pw string
	g.secret(&pw, "pw", "", "refused: see --password-file")
	g.text(&f.id, "id", "i", "client `identifier` (default: the server assigns one)")
	g.text(&f.idPrefix, "id-prefix", "I", "client identifier is this `prefix` and the process's number")
	g.exclude("id", "id-prefix")
	g.add(&value{kind: "5|311", words: []string{"5", "311"}, set: f.setVersion, show: func() string { return f.version }}, "protocol-version", "V",
		"version of MQTT; also mqttv5 and mqttv311 (default: 5, and 311 where the server has no 5)")
	f.keepAlive = time.Minute
	g.wholeSeconds(&f.keepAlive, math.MaxUint16, "keepalive", "k", "longest silence before a ping; 0: no pings")
	g.toggle(&f.keepSession, "disable-clean-session", "c", "take up the session that the server has for this client, and leave it there")
	g.add(&value{kind: "seconds", set: f.setSessionExpiry, show: func() string { return "" }}, "session-expiry-interval", "x",
		"how long the server keeps the session; -1: for ever (default: 0, with -c -1)")
}

func (t *tlsFlags) register(g flagGroup) {
	g.toggle(&t.on, "tls", "", "use TLS; other flags here, port 8883 and mqtts:// say so, too")
	g.file(&t.caFile, "cafile", "", "PEM `file` with the authorities to trust, instead of the system's")
	g.folder(&t.caPath, "capath", "", "`directory` of such files")
	g.file(&t.cert, "cert", "", "PEM `file` with this client's certificate")
	g.file(&t.key, "key", "", "PEM `file` with its key")
	g.file(&t.p12, "p12", "", "PKCS#12 `file` with both")
	g.file(&t.keyPasswordFile, "key-password-file", "", "`file` that holds the password of the PKCS#12 file; or set MYELIN_KEY_PASSWORD")
	g.secret(&t.keyPassword, "key-password", "", "refused: see --key-password-file")
	g.add(&value{kind: "1.2|1.3", words: []string{"1.2", "1.3"}, set: t.setVersion, show: func() string { return t.version }}, "tls-version", "", "least version of TLS; also tlsv1.2 and tlsv1.3")
	g.list(&t.alpn, "protocol", nil, "tls-alpn", "", "application protocol to ask for; can be given several times")
	g.text(&t.serverName, "server-name", "", "`name` that the server's certificate must have (default: the host)")
	g.toggle(&t.insecure, "insecure", "", "trust any certificate: whoever sits between can read and change everything")
	g.exclude("p12", "cert")
	g.exclude("p12", "key")
}

func (w *willFlags) register(g flagGroup) {
	g.text(&w.message.topic, "will-topic", "", "`topic` of the will")
	g.text(&w.payload, "will-payload", "", "its payload")
	number(g, &w.message.qos, 0, 2, "will-qos", "", "its quality of service")
	g.toggle(&w.message.retain, "will-retain", "", "retain it")
	g.wholeSeconds(&w.delay, math.MaxUint32, "will-delay", "", "how long the server waits for this client before it publishes the will")
	w.message.registerProperties(g, "will-")
}

// registerProperties adds the MQTT 5 properties of a message.
func (m *messageFlags) registerProperties(g flagGroup, prefix string) {
	g.text(&m.contentType, prefix+"content-type", "", "`type` of the payload, such as application/json")
	g.text(&m.responseTopic, prefix+"response-topic", "", "`topic` for answers")
	g.add(&value{kind: "text", set: func(s string) error {
		m.correlation, m.hasCorrelation = s, true
		return nil
	}, show: func() string { return m.correlation }}, prefix+"correlation", "", "correlation data for answers")
	g.add(&value{kind: "seconds", set: func(s string) error {
		d, err := parseSeconds(s)
		if err != nil || d%time.Second != 0 || d > math.MaxUint32*time.Second {
			return wants("whole seconds", s)
		}
		m.expiry, m.hasExpiry = d, true
		return nil
	}, show: func() string { return "" }}, prefix+"message-expiry", "", "how long the server keeps the message for who is away")
	g.add(&value{kind: "text|bytes", words: []string{"text", "bytes"}, set: m.setFormat, show: func() string { return [...]string{"", "text"}[m.payloadFormat] }}, prefix+"payload-format", "", "text: the payload is UTF-8")
	g.user(&m.user, prefix+"user-property", "user property; can be given several times")
}

func (m *messageFlags) setFormat(s string) error {
	switch s {
	case "text", "1":
		m.payloadFormat = 1
	case "bytes", "0":
		m.payloadFormat = 0
	default:
		return wants("text or bytes", s)
	}
	return nil
}

func (f *clientFlags) setVersion(s string) error {
	switch s {
	case "5", "mqttv5", "5.0":
		f.version = "5"
	case "311", "mqttv311", "3.1.1":
		f.version = "311"
	case "31", "mqttv31", "3.1":
		return wants("5 or 311, for this client does not speak MQTT 3.1", s)
	default:
		return wants("5 or 311", s)
	}
	return nil
}

func (t *tlsFlags) setVersion(s string) error {
	v := strings.TrimPrefix(s, "tlsv")
	if !slices.Contains([]string{"1.0", "1.1", "1.2", "1.3"}, v) {
		return wants("1.2, 1.3, or for old servers 1.0 or 1.1", s)
	}
	t.version = v
	return nil
}

// setSessionExpiry reads seconds, of which the protocol takes the largest
// number for ever, as do -1 and ∞.
func (f *clientFlags) setSessionExpiry(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); s == "∞" || err == nil && (n == -1 || n == math.MaxUint32) {
		f.sessionExpiry = -1
		return nil
	}
	d, err := parseSeconds(s)
	if err != nil || d%time.Second != 0 || d >= math.MaxUint32*time.Second {
		return wants("whole seconds, or -1 for ever", s)
	}
	f.sessionExpiry = d
	return nil
}

// has tells whether the command line, the environment or the file has set a
// flag.
func (f *clientFlags) has(name string) bool {
	return isSet(f.command.Flags(), name)
}

func isSet(s *pflag.FlagSet, name string) bool {
	x := s.Lookup(name)
	return x != nil && x.Changed
}
