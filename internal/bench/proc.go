//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// disk tells the bytes of all files that the broker has in its directory.
func (p *process) disk() (n int64, err error) {
	err = filepath.WalkDir(p.setup.Dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return gone(err)
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return gone(err)
	})
	return n, err
}

// gone forgives that a file has been removed since it was listed.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
