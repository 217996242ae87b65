package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrNotRunning says that no broker answers in a data directory.
var ErrNotRunning = errors.New("no broker answers on the control socket")

// Client calls the broker that runs on a data directory. Its errors are
// ErrNotRunning, those of the connection, and what the broker says.
type Client struct {
	dir  string
	http http.Client
}

// NewClient is the client for the broker on a data directory. It does nothing
// yet.
func NewClient(dir string) *Client {
	return &Client{dir: dir, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			at, done, err := short(dir)
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(at, SocketName))
		},
	}}}
}

// State tells what the broker holds.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	return s, c.call(ctx, http.MethodGet, pathState, nil, &s)
}

// Queues tells who holds how much; sort is "bytes" or "messages".
func (c *Client) Queues(ctx context.Context, limit int, sort string) (Queues, error) {
	var q Queues
	v := url.Values{"limit": {strconv.Itoa(limit)}, "sort": {sort}}
	return q, c.call(ctx, http.MethodGet, pathQueues+"?"+v.Encode(), nil, &q)
}

// Backup has the broker copy its store into dir, which is made absolute.
func (c *Client) Backup(ctx context.Context, dir string) (Backup, error) {
	var b Backup
	abs, err := filepath.Abs(dir)
	if err != nil {
		return b, err
	}
	return b, c.call(ctx, http.MethodPost, pathBackup, BackupRequest{Dir: abs}, &b)
}

// maxAnswer bounds what is read of an answer, in bytes: client identifiers are
// at most 64 KiB each.
const maxAnswer = 1 << 30

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	a, err := c.http.Do(r)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)),
		errors.Is(err, fs.ErrNotExist):
		return ErrNotRunning
	case errors.As(err, &op):
		return fmt.Errorf("call the broker in %s: %w", c.dir, op.Err)
	case err != nil:
		return fmt.Errorf("call the broker in %s: %w", c.dir, err)
	}
	defer a.Body.Close() //nolint:errcheck // it was only read
	d := json.NewDecoder(io.LimitReader(a.Body, maxAnswer))
	if a.StatusCode != http.StatusOK {
		var p Problem
		if err := d.Decode(&p); err != nil || p.What == "" {
			return fmt.Errorf("call the broker in %s: %s", c.dir, a.Status)
		}
		return errors.New(p.What)
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read the broker's answer: %w", err)
	}
	return nil
}
