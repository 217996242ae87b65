//go:build conformance

package conformance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is one bad packet and what must come of it.
type row struct {
	version byte
	stage   string // "first": in place of CONNECT; "later": after CONNACK; "behind": in one segment with the CONNECT
	packet  string // the packet type, in lower case
	name    string
	bytes   []byte
	expect  string
}

// The answers that a row may expect. Those with codes are followed by them, in hexadecimal: one of them must be the reason code.
const (
	expectClose      = "close"      // the end, without a packet
	expectTurnedAway = "turnedaway" // the end; a CONNACK with an error, in any form, may come first
	expectRefused    = "refused"    // CONNACK with one of the codes, then the end
	expectDisconnect = "disconnect" // DISCONNECT with one of the codes, then the end
)

func (r row) String() string {
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%x\t%s", versionNames[r.version], r.stage, r.packet, r.name, r.bytes, r.expect)
}

func parseRow(line string) (r row, err error) {
	f := strings.Split(line, "\t")
	if len(f) != 6 {
		return r, fmt.Errorf("%d columns, want 6", len(f))
	}
	for v, name := range versionNames {
		if name == f[0] {
			r.version = v
		}
	}
	r.stage, r.packet, r.name, r.expect = f[1], f[2], f[3], f[5]
	r.bytes, err = hex.DecodeString(f[4])
	return r, err
}

var malformedFile = filepath.Join("testdata", "malformed.tsv")

const malformedHead = "# version\tstage\tpacket\tname\tbytes\texpect (written by go test -tags conformance -run TestMalformedTable -rewrite)\n"

// TestMalformedTable compares the table with what generates it.
func TestMalformedTable(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(malformedHead)
	rows := malformedRows()
	seen := map[string]bool{}
	for _, r := range rows {
		key := fmt.Sprint(r.version, r.stage, r.packet, r.name)
		if seen[key] {
			t.Errorf("the row %s is there twice", r)
		}
		seen[key] = true
		fmt.Fprintln(&b, r)
		if back, err := parseRow(r.String()); err != nil || back.String() != r.String() {
			t.Errorf("row %s reads back as %s, %v", r, back, err)
		}
	}
	if len(rows) < 1000 {
		t.Errorf("%d rows, want 1000 at least", len(rows))
	}
	if *rewrite {
		if err := os.WriteFile(malformedFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(malformedFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what the generator gives: run with -rewrite and read the difference", malformedFile)
	}
	t.Logf("%d rows", len(rows))
}

// tableCases is one case for each packet type: all of its rows.
func tableCases() []testCase {
	rows := malformedRows()
	var packets []string
	versions := map[string][]byte{}
	for _, r := range rows {
		if !slices.Contains(packets, r.packet) {
			packets = append(packets, r.packet)
		}
		if !slices.Contains(versions[r.packet], r.version) {
			versions[r.packet] = append(versions[r.packet], r.version)
		}
	}
	var list []testCase
	for _, packet := range packets {
		list = append(list, testCase{"malformed-" + packet, versions[packet], func(e *env) { runRows(e, packet) }})
	}
	return list
}

// runRows runs the rows of one packet type in one version, as they stand in the table.
func runRows(e *env, packet string) {
	b, err := os.ReadFile(malformedFile)
	if err != nil {
		e.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRow(line)
		if err != nil {
			e.Fatalf("%s: %v", line, err)
		}
		if r.version == e.v && r.packet == packet {
			prefix := e.unique() + "y"
			e.Run(r.stage+"-"+r.name, func(t *testing.T) {
				t.Parallel()
				e := &env{T: t, v: r.version, prefix: prefix}
				runRow(e, r, false)
				if r.stage != "behind" {
					runRow(e, r, true)
				}
			})
		}
	}
}

// runRow sends the bytes of a row in one piece, or one by one.
func runRow(e *env, r row, split bool) {
	c := e.dial()
	c.id = "row"
	if split {
		c.id = "row, byte by byte"
	}
	hello := connect{id: e.unique()}.bytes(e.v)
	switch r.stage {
	case "first":
		c.pieces(r.bytes, split)
	case "later":
		c.send(hello)
		c.welcome()
		c.pieces(r.bytes, split)
	case "behind":
		c.send(hello, r.bytes)
		c.welcome()
	}
	want, list, _ := strings.Cut(r.expect, " ")
	var codes []byte
	for f := range strings.FieldsSeq(list) {
		n, _ := strconv.ParseUint(f, 16, 8)
		codes = append(codes, byte(n))
	}
	switch want {
	case expectClose:
		c.drain(nil)
	case expectTurnedAway:
		c.turnedAway()
	case expectRefused:
		c.refused(codes...)
	case expectDisconnect:
		c.drain(codes)
	default:
		e.Fatalf("unknown expectation %q", r.expect)
	}
}

// pieces sends bytes at once or one by one; the server may end the connection before the last.
func (c *client) pieces(b []byte, split bool) {
	c.e.Helper()
	if !split {
		c.send(b)
		return
	}
	for i := range b {
		if c.write(b[i:i+1]) != nil {
			return
		}
	}
}
