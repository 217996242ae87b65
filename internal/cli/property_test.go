package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// TestFoldProperties: the words of a -D become one, and what only looks like one
// is left alone.
func TestFoldProperties(t *testing.T) {
	c := pubCommand(Process{})
	f := func(in string, want ...string) {
		t.Helper()
		got := foldProperties(c, strings.Fields(in))
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], propertySep, "/")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
	f("")
	f("-t a -m b", "-t", "a", "-m", "b")
	f("-D publish content-type x -m b", "-D", "publish/content-type/x", "-m", "b")
	f("--property publish user-property k -5 -r", "--property", "publish/user-property/k/-5", "-r")
	f("-rD publish content-type x", "-rD", "publish/content-type/x")
	f("-m -D -t a", "-m", "-D", "-t", "a")
	f("--message -D publish", "--message", "-D", "publish")
	f("-mD publish", "-mD", "publish")
	f("--message=-D x", "--message=-D", "x")
	f("-- -D a b c", "--", "-D", "a", "b", "c")
	f("-D", "-D")
	f("-D publish", "-D", "publish")
	f("-D publish user-property k", "-D", "publish/user-property/k")
	f("-r -Z -D publish content-type x", "-r", "-Z", "-D", "publish/content-type/x")
}

// TestProperties: each -D goes where the long name goes.
func TestProperties(t *testing.T) {
	x, o := optionsOf(t, nil,
		"-t", "a", "-n", "--will-topic", "w", "--will-content-type", "old", "--will-user-property", "u=1",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "r", "-D", "publish", "correlation-data", "",
		"-D", "publish", "message-expiry-interval", "0", "-D", "publish", "payload-format-indicator", "1", "-D", "publish", "user-property", "a b", "c d",
		"-D", "connect", "receive-maximum", "7", "-D", "connect", "maximum-packet-size", "1000", "-D", "connect", "topic-alias-maximum", "0",
		"-D", "connect", "session-expiry-interval", "90", "-D", "connect", "user-property", "k", "v",
		"-D", "will", "content-type", "new", "-D", "will", "will-delay-interval", "5", "-D", "will", "user-property", "u", "2",
	)
	m, err := x.message.message(nil, "--topic")
	if err != nil {
		t.Fatal(err)
	}
	want := client.Message{Topic: "a", ContentType: "text/plain", ResponseTopic: "r", Correlation: []byte{}, HasExpiry: true, PayloadFormat: 1, User: []packet.UserProperty{{Key: "a b", Value: "c d"}}}
	same(t, "message", *m, want)
	same(t, "will", *o.Will, packet.Will{Message: packet.Message{Topic: "w", Payload: []byte{}, ContentType: "new", User: []packet.UserProperty{{Key: "u", Value: "1"}, {Key: "u", Value: "2"}}}, Delay: 5})
	same(t, "user", o.User, []packet.UserProperty{{Key: "k", Value: "v"}})
	if o.ReceiveMaximum != 7 || o.MaxPacket != 1000 || o.TopicAliasMaximum != -1 || o.SessionExpiry.Seconds() != 90 {
		t.Errorf("%+v", o)
	}

	f := func(want string, args ...string) {
		t.Helper()
		x, err := filled(nil, append([]string{"-t", "a", "-n"}, args...)...)
		if err == nil {
			_, err = x.options()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	f("wants a command, a property and its value", "-D", "publish", "content-type")
	f("wants a name and a value after user-property", "-D", "publish", "user-property", "k")
	f(`no property "colour" of publish`, "-D", "publish", "colour", "red")
	f(`sets no property of "subscribe"`, "-D", "subscribe", "subscription-identifier", "1")
	f("receive-maximum of connect wants a number of 0 to 65535", "-D", "connect", "receive-maximum", "65536")
	f("a property of the will, but no topic for it", "-D", "will", "content-type", "x")
}
