package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// options makes of the flags what the client takes. What is wrong with them is
// a usage error.
func (f *clientFlags) options() (client.Options, error) {
	o := client.Options{
		ClientID:          f.id,
		CleanStart:        !f.keepSession,
		SessionExpiry:     f.sessionExpiry,
		KeepAlive:         f.keepAlive,
		Username:          f.username,
		User:              f.connectUser,
		ReceiveMaximum:    f.receiveMaximum,
		MaxInflight:       f.maxInflight,
		MaxPacket:         f.maxPacket,
		TopicAliasMaximum: noneIsNegative(f.aliasMaximum),
		SendAliases:       noneIsNegative(f.aliases),
		ConnectTimeout:    f.connectTimeout,
		NoReconnect:       !f.reconnect,
	}
	switch f.version {
	case "5":
		o.Version = packet.V5
	case "311":
		o.Version = packet.V311
	}
	if f.keepAlive == 0 {
		o.KeepAlive = -1
	}
	if f.idPrefix != "" {
		o.ClientID = f.idPrefix + strconv.Itoa(os.Getpid())
	}
	if f.keepSession && o.ClientID == "" {
		return o, misuse("name the client with -i", "-c needs a client identifier, by which the server knows the session")
	}
	if f.keepSession && !f.has("session-expiry-interval") {
		o.SessionExpiry = -1
	}
	for _, step := range []func(*client.Options) error{f.setServers, f.setPassword, f.setTLS, f.setWill, f.setDial, f.setProperties} {
		if err := step(&o); err != nil {
			return o, err
		}
	}
	if f.debug {
		f.trace(&o)
	}
	return o, nil
}

// noneIsNegative: the flags say 0 for none, the options something below it.
func noneIsNegative(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// setServers reads -L, or makes a URL of host and port. A user name in a URL
// goes into the options, so that nothing that prints the URL shows a password.
func (f *clientFlags) setServers(o *client.Options) error {
	urls, flag := f.urls, "--url"
	if len(urls) == 0 {
		urls, flag = []string{f.address()}, "--host"
	}
	for _, u := range urls {
		server, _ := splitTopic(u)
		t, err := dial.Parse(server)
		if err != nil {
			return misuse("write such as mqtt://localhost:1883/topic", "%s: %v", flag, err)
		}
		if t.User != "" || t.HasPassword {
			if o.Username == "" {
				o.Username = t.User
				if t.HasPassword {
					o.Password = []byte(t.Password)
				}
			}
			t.User, t.Password, t.HasPassword = "", "", false
		}
		if f.tls.wanted() && t.Scheme == "tcp" {
			t.Scheme = "tls"
		} else if f.tls.wanted() && t.Scheme == "ws" {
			t.Scheme = "wss"
		}
		o.Servers = append(o.Servers, t.String())
	}
	return nil
}

// address is the URL that host, port and their like make.
func (f *clientFlags) address() string {
	if f.unix != "" {
		return "unix:" + pathEscaped(f.unix)
	}
	secure := f.tls.wanted() || f.port == 8883
	scheme, port := "mqtt", f.port
	switch {
	case f.ws != "" && secure:
		scheme = "wss"
	case f.ws != "":
		scheme = "ws"
	case secure:
		scheme = "mqtts"
	}
	host := f.host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	u := scheme + "://" + host
	if port != 0 {
		u += ":" + strconv.Itoa(int(port))
	}
	if f.ws != "" {
		u += "/" + strings.TrimPrefix(f.ws, "/")
	}
	return u
}

// pathEscaped is the absolute path of a socket, as a URL has it.
func pathEscaped(path string) string {
	if !strings.HasPrefix(path, "/") {
		if dir, err := os.Getwd(); err == nil {
			path = dir + "/" + path
		}
	}
	return "//" + strings.NewReplacer("%", "%25", " ", "%20", "@", "%40").Replace(path)
}

// splitTopic takes the topic off a URL for TCP or TLS, as it stands there.
// WebSocket and Unix sockets have a path of their own.
func splitTopic(u string) (server, topic string) {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok || slices.Contains([]string{"ws", "wss", "unix"}, strings.ToLower(scheme)) {
		return u, ""
	}
	authority, topic, _ := strings.Cut(rest, "/")
	if withPassword(u) && !strings.Contains(authority, "@") {
		return u, "" // package dial says what is wrong, and does not show the password
	}
	return scheme + "://" + authority, topic
}

// urlTopic is the topic that -L names, "" if it names none.
func (f *clientFlags) urlTopic() string {
	for _, u := range f.urls {
		if _, t := splitTopic(u); t != "" {
			return t
		}
	}
	return ""
}

// withPassword tells whether a URL has a password, also one with a slash in it,
// which would have to be written %2F.
func withPassword(u string) bool {
	_, rest, ok := strings.Cut(u, "://")
	if !ok {
		rest = u
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return strings.Contains(authority[:at], ":")
	}
	_, port, ok := strings.Cut(authority, ":")
	_, err := strconv.ParseUint(port, 10, 16)
	return ok && err != nil && strings.Contains(rest, "@")
}

// maxSecret bounds what is read of a file with a password, in bytes.
const maxSecret = 64 << 10

// setPassword takes it from the environment, the configuration file, or a file
// of its own, whose last line break does not belong to it.
func (f *clientFlags) setPassword(o *client.Options) error {
	secret := f.password
	if f.passwordFile != "" {
		var err error
		if secret, err = readSecret(f.passwordFile); err != nil {
			return err
		}
	}
	if secret != "" {
		o.Password = []byte(secret)
	}
	return nil
}

func readSecret(name string) (string, error) {
	b, err := readLimited(name, maxSecret)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// wanted tells whether any flag asks for TLS.
func (t *tlsFlags) wanted() bool {
	return t.on || t.insecure || t.caFile != "" || t.caPath != "" || t.cert != "" || t.key != "" || t.p12 != "" ||
		t.serverName != "" || t.version != "" || len(t.alpn) > 0
}

func (f *clientFlags) setTLS(o *client.Options) error {
	t := &f.tls
	if !t.wanted() {
		return nil
	}
	files := client.TLSFiles{
		Cert: t.cert, Key: t.key, PKCS12: t.p12, Password: t.keyPassword,
		ServerName: t.serverName, ALPN: t.alpn, Insecure: t.insecure, MinVersion: t.version,
	}
	for _, ca := range []string{t.caFile, t.caPath} {
		if ca != "" {
			files.CAs = append(files.CAs, ca)
		}
	}
	var err error
	if t.keyPasswordFile != "" {
		if files.Password, err = readSecret(t.keyPasswordFile); err != nil {
			return err
		}
	}
	if o.TLS, err = client.LoadTLS(files); err != nil {
		return &hinted{err: err, hint: cmp.Or(client.Hint(err), "`openssl x509 -noout -text -in FILE` shows what is in a certificate's file"), code: exitTLS}
	}
	return nil
}

func (f *clientFlags) setWill(o *client.Options) error {
	m := &f.will.message
	if m.topic == "" {
		for _, n := range []string{"will-payload", "will-qos", "will-retain", "will-delay", "will-content-type", "will-message-expiry"} {
			if f.has(n) {
				return misuse("name its topic with --will-topic", "--%s is there, but no topic for the will", n)
			}
		}
		return nil
	}
	w, err := m.message([]byte(f.will.payload), "--will-topic")
	if err != nil {
		return err
	}
	o.Will = &packet.Will{Message: *w, Delay: uint32(f.will.delay / time.Second)}
	return nil
}

// message is what the flags make of a payload; flag names the topic's.
func (m *messageFlags) message(payload []byte, flag string) (*client.Message, error) {
	if !topic.ValidName([]byte(m.topic)) {
		return nil, misuse("a topic has levels such as home/kitchen, and neither + nor #, which only subscriptions have", "%s: %q is not a topic to publish to", flag, m.topic)
	}
	x := &client.Message{
		Topic: m.topic, Payload: payload, QoS: m.qos, Retain: m.retain,
		PayloadFormat: m.payloadFormat, ContentType: m.contentType, ResponseTopic: m.responseTopic,
		HasExpiry: m.hasExpiry, Expiry: uint32(m.expiry / time.Second), User: m.user,
	}
	if m.hasCorrelation {
		x.Correlation = []byte(m.correlation)
	}
	return x, nil
}

// sinks take the -D of a message.
func (m *messageFlags) sinks() map[string]sink {
	return map[string]sink{
		"content-type":   textSink(&m.contentType),
		"response-topic": textSink(&m.responseTopic),
		"correlation-data": func(p property) error {
			m.correlation, m.hasCorrelation = p.value, true
			return nil
		},
		"message-expiry-interval": func(p property) error {
			var n uint32
			err := numberSink(&n, 1<<32-1)(p)
			m.expiry, m.hasExpiry = time.Duration(n)*time.Second, true
			return err
		},
		"payload-format-indicator": numberSink(&m.payloadFormat, 1),
		"user-property":            userSink(&m.user),
	}
}

// setProperties applies each -D of the connection and the will; those of the
// command's own packets are in f.sinks.
func (f *clientFlags) setProperties(o *client.Options) error {
	var delay uint32
	will := messageFlags{}
	sinks := map[string]map[string]sink{
		"connect": {
			"receive-maximum":     numberSink(&o.ReceiveMaximum, 65535),
			"maximum-packet-size": numberSink(&o.MaxPacket, packet.MaxSize),
			"topic-alias-maximum": func(p property) error { return aliasSink(&o.TopicAliasMaximum, p) },
			"session-expiry-interval": func(p property) error {
				err := f.setSessionExpiry(p.value)
				o.SessionExpiry = f.sessionExpiry
				return err
			},
			"user-property": userSink(&o.User),
		},
		"will": will.sinks(),
	}
	sinks["will"]["will-delay-interval"] = numberSink(&delay, 1<<32-1)
	for name, s := range f.sinks {
		sinks[name] = s
	}
	if err := applyProperties(f.properties, sinks); err != nil {
		return err
	}
	return will.into(o.Will, delay)
}

func aliasSink(to *int, p property) error {
	err := numberSink(to, 65535)(p)
	*to = noneIsNegative(*to)
	return err
}

// into adds what -D said of the will.
func (m *messageFlags) into(w *packet.Will, delay uint32) error {
	said := m.contentType != "" || m.responseTopic != "" || m.hasCorrelation || m.hasExpiry || m.payloadFormat != 0 || m.user != nil || delay != 0
	switch {
	case !said:
		return nil
	case w == nil:
		return misuse("name its topic with --will-topic", "--property: a property of the will, but no topic for it")
	}
	if m.contentType != "" {
		w.ContentType = m.contentType
	}
	if m.responseTopic != "" {
		w.ResponseTopic = m.responseTopic
	}
	if m.hasCorrelation {
		w.Correlation = []byte(m.correlation)
	}
	if m.hasExpiry {
		w.HasExpiry, w.Expiry = true, uint32(m.expiry/time.Second)
	}
	if m.payloadFormat != 0 {
		w.PayloadFormat = m.payloadFormat
	}
	if delay != 0 {
		w.Delay = delay
	}
	w.User = append(w.User, m.user...)
	return nil
}

func (f *clientFlags) setDial(o *client.Options) error {
	switch {
	case f.ipv4:
		o.Network = "tcp4"
	case f.ipv6:
		o.Network = "tcp6"
	}
	for _, h := range f.header {
		k, v, _ := strings.Cut(h, ":")
		if o.Header == nil {
			o.Header = http.Header{}
		}
		o.Header.Add(strings.TrimSpace(k), strings.TrimSpace(v))
	}
	if f.bind == "" {
		return nil
	}
	ip := net.ParseIP(f.bind)
	if ip == nil {
		return misuse("write an address of this machine, such as 192.0.2.7", "--bind: %q is not an address", f.bind)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	o.Dial = d.DialContext
	return nil
}

func checkHeader(s string) error {
	if k, _, ok := strings.Cut(s, ":"); !ok || strings.TrimSpace(k) == "" || strings.ContainsAny(s, "\r\n") {
		return wants("NAME:VALUE", s)
	}
	return nil
}

// readLimited reads a file that may have most bytes; "-" is no special name.
func readLimited(name string, most int) ([]byte, error) {
	r, err := os.Open(name)
	if err != nil {
		return nil, fileError(err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	b, err := readAll(r, most)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

func fileError(err error) error {
	var h string
	switch {
	case errors.Is(err, os.ErrNotExist):
		h = "check the path"
	case errors.Is(err, os.ErrPermission):
		h = "let this user read it"
	}
	return &hinted{err: err, hint: h, code: exitFailure}
}
