package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

func TestLatencies(t *testing.T) {
	f := func(lost int, asJSON bool, want string, times ...time.Duration) {
		t.Helper()
		l := newLatencies()
		l.lost = lost
		for _, d := range times {
			l.add(d)
		}
		got, err := l.text(asJSON)
		if err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	var thousand []time.Duration
	for i := range 1000 {
		thousand = append(thousand, time.Duration(i+1)*time.Millisecond)
	}
	f(2, false, `1000 round trips, 2 without an answer
min        1.000 ms
mean     500.500 ms
p50      500.171 ms
p90      900.202 ms
p99      990.380 ms
p99.9    999.293 ms
max     1000.000 ms
`, thousand...)
	f(0, true, `{"count":2,"lost":0,"max_ms":3600000.000,"mean_ms":1800000.000,"min_ms":0.000,"p50_ms":0.001,"p90_ms":60028.879,"p99_9_ms":60028.879,"p99_ms":60028.879}
`, -1, time.Hour)
	f(3, false, "0 round trips, 3 without an answer\n")
	f(3, true, `{"count":0,"lost":3}`+"\n")
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		for _, d := range []time.Duration{-1, 0, time.Second} {
			if err := pause(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(begin); d != time.Second {
			t.Errorf("waited %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var h *hinted
		if err := pause(ctx, time.Minute); !errors.As(err, &h) || h.code != exitInterrupted {
			t.Error(err)
		}
	})
}

// TestCommandEnv: a command does not get our settings, one of which may be a
// password, and a request cannot set what it likes.
func TestCommandEnv(t *testing.T) {
	m := &client.Received{Message: packet.Message{Topic: "a\nPATH=x", ContentType: "text/plain", QoS: 1}}
	got := commandEnv([]string{"PATH=/bin", "MYELIN_PASSWORD=secret", "REQUEST_TOPIC=old", "HOME=/"}, m)
	want := []string{"PATH=/bin", "HOME=/", "REQUEST_TOPIC=a\nPATH=x", "REQUEST_CONTENT_TYPE=text/plain", "REQUEST_QOS=1"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestRunCommand(t *testing.T) {
	if name, _ := shell(""); name != "/bin/sh" {
		t.Skip("no shell")
	}
	f := func(command, payload string, wait time.Duration, want, wantErr string) {
		t.Helper()
		var said strings.Builder
		flags := &clientFlags{messages: &output{to: &said}, process: Process{Env: []string{"PATH=/usr/bin:/bin"}}}
		x := &rr{command: command, wait: wait}
		got, err := x.runCommand(t.Context(), flags, msg("a/b", payload))
		if string(got) != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%s: %q, %v, want %q, %s", command, got, err, want, wantErr)
		}
	}
	f("cat", "x\ny\n\n", time.Minute, "x\ny\n", "")
	f("printf '%s' \"$REQUEST_TOPIC\"", "", time.Minute, "a/b", "")
	f("exit 3", "", time.Minute, "", "exit status 3")
	f("sleep 60", "", 10*time.Millisecond, "", "takes longer than 10ms")
	f("sleep 60 & sleep 60; true", "", 10*time.Millisecond, "", "takes longer than 10ms") // children end, too
	f("cat /dev/zero", "", time.Minute, "", "more than 16 MiB")
	f("true", strings.Repeat("x", 1<<20), time.Minute, "", "") // it does not read
}
