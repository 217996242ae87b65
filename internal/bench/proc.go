//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc, which is the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu tells the user and system time of all threads of the broker, ended ones too.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return 0, err
	}
	return parseStat(b)
}

// parseStat reads the sum of utime and stime from the text of a /proc/PID/stat.
func parseStat(b []byte) (time.Duration, error) {
	// The second field is the program's name in brackets, and may hold anything.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if i < 0 || len(f) <= stime {
		return 0, errors.New("read CPU time: too few fields in stat")
	}
	u, err := strconv.ParseInt(f[utime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	s, err := strconv.ParseInt(f[stime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(u+s) * tick, nil
}

func (p *process) pid() int { return p.run.Load().cmd.Process.Pid }

// rss tells the bytes of memory that the broker has resident, peak the most that it ever had since its start.
func (p *process) rss() (int64, error)  { return p.status("VmRSS") }
func (p *process) peak() (int64, error) { return p.status("VmHWM") }

func (p *process) status(field string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	return parseStatus(b, field)
}

// parseStatus reads a field in kB from the text of a /proc/PID/status.
func parseStatus(b []byte, field string) (int64, error) {
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, field+":")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read resident memory: %w", err)
		}
		return kb << 10, nil
	}
	return 0, fmt.Errorf("read resident memory: no %s in status", field)
}

// wrote tells the bytes that the broker has written so far, to files and to sockets.
func (p *process) wrote() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid()))
	if err != nil {
		return 0, err
	}
	return parseIO(b)
}

// parseIO reads what was written from the text of a /proc/PID/io.
func parseIO(b []byte) (int64, error) {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "wchar:"); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, errors.New("read what was written: no wchar in io")
}
