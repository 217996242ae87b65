package packet

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// statements are the statements of the standards that this package answers for, each with packets that break it and the
// code they are refused with, or packets that obey it and look as if they did not (Success). Those without a packet here are
// about what is written, and name the test that holds them.
var statements = []struct {
	id     string
	v      Version
	packet string
	code   Reason
	test   string
}{
	{"MQTT-1.5.4-1", V5, `30 {0003 eda080 {}}`, MalformedPacket, ""},
	{"MQTT-1.5.4-1", V5, `30 {0002 c080 {}}`, MalformedPacket, ""},
	{"MQTT-1.5.4-2", V5, `30 {0003 610062 {}}`, MalformedPacket, ""},
	{"MQTT-1.5.4-2", V5, `82 {0005 {} 0001 00 00}`, MalformedPacket, ""},
	{"MQTT-1.5.4-3", V5, `30 {0004 efbbbf 61 {}}`, Success, ""},
	{"MQTT-1.5.5-1", V5, `c0 8000`, MalformedPacket, ""},
	{"MQTT-1.5.5-1", V5, `30 {"a" 8000}`, MalformedPacket, ""},
	{"MQTT-1.5.7-1", V5, `30 {"a" {26 0001 ff "v"}}`, MalformedPacket, ""},
	{"MQTT-1.5.7-1", V5, `30 {"a" {26 "k" 0001 00}}`, MalformedPacket, ""},
	{"MQTT-2.1.3-1", V5, `c8 {}`, MalformedPacket, ""},
	{"MQTT3-2.2.2-2", V311, `d1 {}`, MalformedPacket, ""},
	{"MQTT-2.2.1-3", V5, `32 {"a" 0000 {}}`, ProtocolError, ""},
	{"MQTT-2.2.1-3", V5, `82 {0000 {} "a" 00}`, ProtocolError, ""},
	{"MQTT-2.2.1-3", V5, `a2 {0000 {} "a"}`, ProtocolError, ""},
	{"MQTT-2.2.1-4", V5, `34 {"a" 0000 {}}`, ProtocolError, ""},
	{"MQTT-2.2.2-1", V5, `30 {"a"}`, MalformedPacket, ""},
	{"MQTT-2.2.2-1", V5, `10 {"MQTT" 05 02 003c}`, MalformedPacket, ""},
	{"MQTT-3.1.2-1", V5, `10 {"MQXX" 05 02 003c {} "id"}`, UnsupportedProtocolVersion, ""},
	{"MQTT-3.1.2-2", V5, `10 {"MQTT" 06 02 003c {} "id"}`, UnsupportedProtocolVersion, ""},
	{"MQTT-3.1.2-3", V5, `10 {"MQTT" 05 03 003c {} "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-9", V5, `10 {"MQTT" 05 06 003c {} "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-9", V5, `10 {"MQTT" 05 06 003c {} "id" {}}`, MalformedPacket, ""},
	{"MQTT-3.1.2-9", V5, `10 {"MQTT" 05 06 003c {} "id" {} "t"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-11", V5, `10 {"MQTT" 05 0a 003c {} "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-12", V5, `10 {"MQTT" 05 1e 003c {} "id" {} "t" ""}`, MalformedPacket, ""},
	{"MQTT-3.1.2-12", V5, `10 {"MQTT" 05 16 003c {} "id" {} "t" ""}`, Success, ""},
	{"MQTT-3.1.2-13", V5, `10 {"MQTT" 05 22 003c {} "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-16", V5, `10 {"MQTT" 05 02 003c {} "id" "anna"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-17", V5, `10 {"MQTT" 05 82 003c {} "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-18", V5, `10 {"MQTT" 05 82 003c {} "id" "anna" "secret"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-19", V5, `10 {"MQTT" 05 c2 003c {} "id" "anna"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-19", V5, `10 {"MQTT" 05 42 003c {} "id" "secret"}`, Success, ""},
	{"MQTT3-3.1.2-22", V311, `10 {"MQTT" 04 42 003c "id" "secret"}`, MalformedPacket, ""},
	{"MQTT-3.1.2-24", 0, "", 0, "TestFrame"},
	{"MQTT-3.1.2-25", 0, "", 0, "TestAppendPublish"},
	{"MQTT-3.1.3-1", V5, `10 {"MQTT" 05 c6 003c {} "id" {} "t" "" "anna" "secret"}`, Success, ""},
	{"MQTT-3.1.3-1", V5, `10 {"MQTT" 05 c6 003c {} {} "t" "" "anna" "secret" "id"}`, MalformedPacket, ""},
	{"MQTT-3.1.3-3", V5, `10 {"MQTT" 05 02 003c {}}`, MalformedPacket, ""},
	{"MQTT-3.1.3-4", V5, `10 {"MQTT" 05 02 003c {} 0001 ff}`, MalformedPacket, ""},
	{"MQTT-3.1.3-10", 0, "", 0, "TestRoundTrip"},
	{"MQTT-3.1.3-11", V5, `10 {"MQTT" 05 06 003c {} "id" {} 0001 ff ""}`, MalformedPacket, ""},
	{"MQTT-3.1.3-12", V5, `10 {"MQTT" 05 82 003c {} "id" 0001 ff}`, MalformedPacket, ""},
	{"MQTT-3.2.2-1", V5, `20 {02 00 {}}`, MalformedPacket, ""},
	{"MQTT-3.2.2-6", V5, `20 {01 87 {}}`, ProtocolError, ""},
	{"MQTT3-3.2.2-4", V311, `20 {01 05}`, ProtocolError, ""},
	{"MQTT3-3.2.2-6", 0, "", 0, "TestReturnCode"},
	{"MQTT-3.2.2-8", V5, `20 {00 8b {}}`, ProtocolError, ""},
	{"MQTT-3.2.2-15", 0, "", 0, "TestFrame"},
	{"MQTT-3.3.1-2", V5, `38 {"a" {}}`, MalformedPacket, ""},
	{"MQTT-3.3.1-4", V5, `36 {"a" 0005 {}}`, MalformedPacket, ""},
	{"MQTT-3.3.2-1", V5, `30 {0001 ff {}}`, MalformedPacket, ""},
	{"MQTT-3.3.2-2", V5, `30 {"a/+" {}}`, TopicNameInvalid, ""},
	{"MQTT-3.3.2-2", V311, `30 {"a/long/topic/that/ends/in/#"}`, TopicNameInvalid, ""},
	{"MQTT-3.3.2-5", 0, "", 0, "TestLeft"},
	{"MQTT-3.3.2-6", 0, "", 0, "TestForms"},
	{"MQTT-3.3.2-8", V5, `30 {"a" {23 0000}}`, TopicAliasInvalid, ""},
	{"MQTT-3.3.2-13", V5, `30 {"a" {08 0001 ff}}`, MalformedPacket, ""},
	{"MQTT-3.3.2-14", V5, `30 {"a" {08 "a/+/b"}}`, ProtocolError, ""},
	{"MQTT-3.3.2-15", 0, "", 0, "TestPropertyOrder"},
	{"MQTT-3.3.2-18", 0, "", 0, "TestPropertyOrder"},
	{"MQTT-3.3.2-19", V5, `30 {"a" {03 0001 ff}}`, MalformedPacket, ""},
	{"MQTT-3.3.4-6", 0, "", 0, "TestPublishView"},
	{"MQTT-3.4.2-1", V5, `40 {0005 92}`, ProtocolError, ""},
	{"MQTT-3.5.2-1", V5, `50 {0005 92}`, ProtocolError, ""},
	{"MQTT-3.6.1-1", V5, `60 {0005}`, MalformedPacket, ""},
	{"MQTT-3.6.2-1", V5, `62 {0005 10}`, ProtocolError, ""},
	{"MQTT-3.7.2-1", V5, `70 {0005 10}`, ProtocolError, ""},
	{"MQTT-3.8.1-1", V5, `80 {0005 {} "a" 00}`, MalformedPacket, ""},
	{"MQTT-3.8.3-1", V5, `82 {0005 {} 0001 ff 00}`, MalformedPacket, ""},
	{"MQTT-3.8.3-2", V5, `82 {0005 {}}`, ProtocolError, ""},
	{"MQTT-3.8.3-4", V5, `82 {0005 {} "$share/g/a" 04}`, ProtocolError, ""},
	{"MQTT-3.8.3-4", V5, `82 {0005 {} "$shared/g/a" 04}`, Success, ""},
	{"MQTT-3.8.3-5", V5, `82 {0005 {} "a" 41}`, MalformedPacket, ""},
	{"MQTT3-3.8.3-4", V311, `82 {0005 "a" 05}`, MalformedPacket, ""},
	{"MQTT3-3.8.3-4", V311, `82 {0005 "a" 03}`, MalformedPacket, ""},
	{"MQTT-3.9.3-2", V5, `90 {0005 {} 8d}`, ProtocolError, ""},
	{"MQTT3-3.9.3-2", V311, `90 {0005 81}`, ProtocolError, ""},
	{"MQTT-3.10.1-1", V5, `a0 {0005 {} "a"}`, MalformedPacket, ""},
	{"MQTT-3.10.3-1", V5, `a2 {0005 {} 0001 ff}`, MalformedPacket, ""},
	{"MQTT-3.10.3-2", V5, `a2 {0005 {}}`, ProtocolError, ""},
	{"MQTT-3.11.3-2", V5, `b0 {0005 {} 01}`, ProtocolError, ""},
	{"MQTT-3.14.1-1", V5, `e2 {}`, MalformedPacket, ""},
	{"MQTT-3.14.2-1", V5, `e0 {84}`, ProtocolError, ""},
	{"MQTT-3.15.1-1", V5, `f1 {}`, MalformedPacket, ""},
	{"MQTT-3.15.2-1", V5, `f0 {01 {15 "m"}}`, ProtocolError, ""},
	{"MQTT-4.7.1-1", V5, `10 {"MQTT" 05 06 003c {} "id" {} "a/#" ""}`, TopicNameInvalid, ""},
	{"MQTT-4.7.3-1", V5, `30 {"" {}}`, ProtocolError, ""},
	{"MQTT-4.7.3-1", V311, `30 {""}`, ProtocolError, ""},
	{"MQTT-4.7.3-1", V5, `10 {"MQTT" 05 06 003c {} "id" {} "" ""}`, TopicNameInvalid, ""},
	{"MQTT-4.7.3-1", V5, `30 {"a" {08 ""}}`, ProtocolError, ""},
	{"MQTT-4.7.3-2", V5, `82 {0005 {} 0001 00 00}`, MalformedPacket, ""},
}

func TestStatements(t *testing.T) {
	for _, s := range statements {
		if s.test != "" {
			continue
		}
		b, err := assemble(s.packet)
		if err != nil {
			t.Fatalf("%s: %s: %v", s.id, s.packet, err)
		}
		p, _, err := Parse(b, 0, s.v)
		var e *Error
		switch {
		case s.code == Success && (err != nil || p == nil):
			t.Errorf("%s: %s: %v, want it accepted", s.id, s.packet, err)
		case s.code != Success && (!errors.As(err, &e) || e.Code != s.code):
			t.Errorf("%s: %s: %v, want %v", s.id, s.packet, err, s.code)
		}
	}
}

// TestStatementsAreTested: every statement that the code cites has a row above.
func TestStatementsAreTested(t *testing.T) {
	have := map[string]bool{}
	for _, s := range statements {
		have[s.id] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	citation := regexp.MustCompile(`\[(MQTT3?-[\d.]+-\d+)\]`)
	tests := ""
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			tests += string(text)
			continue
		}
		for _, m := range citation.FindAllStringSubmatch(string(text), -1) {
			if !have[m[1]] {
				t.Errorf("%s cites %s, which statements_test.go does not test", name, m[1])
			}
		}
	}
	for _, s := range statements {
		if s.test != "" && !strings.Contains(tests, "func "+s.test+"(") {
			t.Errorf("%s: there is no %s", s.id, s.test)
		}
	}
}
