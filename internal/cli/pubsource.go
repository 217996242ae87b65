package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/packet"
)

// sourceFlags say where the payloads come from.
type sourceFlags struct {
	text    string
	file    string
	lines   bool
	stdin   bool
	null    bool
	repeat  int
	delay   time.Duration
	command *cobra.Command
}

func (s *sourceFlags) register(c *cobra.Command) {
	s.command = c
	g := newGroup(c, "Message")
	g.text(&s.text, "message", "m", "the `payload`")
	g.file(&s.file, "file", "f", "`file` whose contents are the payload")
	g.toggle(&s.lines, "stdin-line", "l", "a message for each line of standard input, sent as it comes")
	g.toggle(&s.stdin, "stdin-file", "s", "all of standard input is the payload")
	g.toggle(&s.null, "null-message", "n", "an empty payload; with -r the server forgets the topic's retained message")
	s.repeat = 1
	number(g, &s.repeat, 1, math.MaxInt32, "repeat", "", "send it so many times")
	g.seconds(&s.delay, "repeat-delay", "", "wait so long between them")
	g.exclude("message", "file", "stdin-line", "stdin-file", "null-message")
	g.exclude("repeat", "stdin-line")
}

func (s *sourceFlags) check() error {
	flags := s.command.Flags()
	if !isSet(flags, "message") && s.file == "" && !s.lines && !s.stdin && !s.null {
		return misuse("give -m TEXT, -f FILE, -l (lines of standard input), -s (all of it) or -n (empty)", "no message to publish")
	}
	if s.delay > 0 && s.repeat == 1 && !s.lines {
		return misuse("add --repeat, or -l", "--repeat-delay: there is nothing to repeat")
	}
	return nil
}

// open gives a function that reads the next payload, and io.EOF behind the last.
func (s *sourceFlags) open(stdin io.Reader) (next func() ([]byte, error), err error) {
	payload := []byte(s.text)
	switch {
	case s.lines:
		return lineReader(stdin), nil
	case s.stdin:
		if payload, err = readAll(stdin, packet.MaxRemaining); err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
	case s.file != "":
		if payload, err = readLimited(s.file, packet.MaxRemaining); err != nil {
			return nil, err
		}
	case s.null:
		payload = nil
	}
	n := 0
	return func() ([]byte, error) {
		if n == s.repeat {
			return nil, io.EOF
		}
		n++
		return payload, nil
	}, nil
}

// maxLine bounds a line of standard input, in bytes.
const maxLine = 16 << 20

// lineReader reads lines without their line breaks, the last one also where it
// has none.
func lineReader(r io.Reader) func() ([]byte, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	return func() ([]byte, error) {
		var line []byte
		for {
			part, err := b.ReadSlice('\n')
			line = append(line, part...)
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				if len(line) > maxLine {
					return nil, &hinted{err: fmt.Errorf("a line of standard input is longer than %d bytes", maxLine), hint: "send such messages with -f or -s", code: exitLimit}
				}
			case errors.Is(err, io.EOF) && len(line) == 0:
				return nil, io.EOF
			case err != nil && !errors.Is(err, io.EOF):
				return nil, fmt.Errorf("read standard input: %w", err)
			default:
				if n := len(line); n > 0 && line[n-1] == '\n' {
					line = line[:n-1]
				}
				return line, nil
			}
		}
	}
}

// payload is the next message, or the end: err says why, nil: there are no more.
type payload struct {
	bytes []byte
	end   bool
	err   error
}

// start reads payloads on a goroutine, one ahead, with the delay between them.
// stop ends it, but for a read of standard input that nobody ends: that is
// left to the end of the program.
func (s *sourceFlags) start(next func() ([]byte, error)) (<-chan payload, func()) {
	out := make(chan payload)
	done := make(chan struct{})
	put := func(p payload) bool {
		select {
		case out <- p:
			return true
		case <-done:
			return false
		}
	}
	go func() {
		for first := true; ; first = false {
			b, err := next()
			if errors.Is(err, io.EOF) {
				put(payload{end: true})
				return
			}
			if err != nil {
				put(payload{end: true, err: err})
				return
			}
			if !first && !s.wait(done) {
				return
			}
			if !put(payload{bytes: b}) {
				return
			}
		}
	}()
	return out, func() { close(done) }
}

// wait is the delay between two messages; false: it was cut short.
func (s *sourceFlags) wait(done <-chan struct{}) bool {
	if s.delay == 0 {
		return true
	}
	t := time.NewTimer(s.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
