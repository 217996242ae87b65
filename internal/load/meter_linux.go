package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Meter reads a process' CPU time, user and system, and its resident bytes.
type Meter func() (cpu time.Duration, rss int64, err error)

// tick is the unit of times in /proc, the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// ProcessMeter watches the process of a number on this machine, which has to run.
func ProcessMeter(pid int) (Meter, error) {
	m := func() (cpu time.Duration, rss int64, err error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, 0, err
		}
		return parseStat(stat, int64(os.Getpagesize()))
	}
	_, _, err := m()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no process %d runs on this machine", pid)
	}
	return m, err
}

// parseStat reads utime, stime and rss of the text of a /proc/PID/stat.
func parseStat(b []byte, page int64) (cpu time.Duration, rss int64, err error) {
	// The second field is the program's name in brackets, and may hold anything.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	const utime, stime, pages = 14 - 3, 15 - 3, 24 - 3
	if i < 0 || len(f) <= pages {
		return 0, 0, errors.New("read stat: too few fields")
	}
	var v [3]int64
	for k, at := range []int{utime, stime, pages} {
		if v[k], err = strconv.ParseInt(f[at], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("read stat: %w", err)
		}
	}
	return time.Duration(v[0]+v[1]) * tick, v[2] * page, nil
}
