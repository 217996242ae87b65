package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
)

// Options are what the server tells beside what the broker knows.
type Options struct {
	Dir        string // the data directory, which the broker has locked
	Durability string
	Version    string
	Logger     *slog.Logger
}

// Server serves the API until it is closed.
type Server struct {
	o       Options
	b       *broker.Broker
	http    *http.Server
	file    fs.FileInfo // of the socket, to remove no other
	path    string
	started time.Time
	stop    context.CancelFunc
	run     sync.WaitGroup
	once    sync.Once
}

// maxRequest bounds what is read of a request's body, in bytes.
const maxRequest = 64 << 10

// Serve makes the socket, with mode 0600, and serves the API on it. A socket
// that is there already is of a broker that is gone, as this one has locked the
// directory: it is replaced. A file that is no socket is left alone, and is an
// error.
func Serve(b *broker.Broker, o Options) (*Server, error) {
	ln, err := listen(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{o: o, b: b, path: filepath.Join(o.Dir, SocketName), started: time.Now(), stop: stop}
	if s.file, err = os.Lstat(s.path); err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("open control socket: %w", err), ln.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathState, s.state)
	mux.HandleFunc("GET "+pathQueues, s.queues)
	mux.HandleFunc("POST "+pathBackup, s.backup)
	s.http = &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	s.run.Go(func() {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("control socket", "err", err)
		}
	})
	return s, nil
}

// listen binds the socket in a folder of its own that nobody else may enter, so
// that it is never open to others, and moves it to its place.
func listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("a file that is no socket is in the way: %s", path)
	}
	tmp, err := os.MkdirTemp(dir, ".control-") // of mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // it is empty, and harmless
	at, done, err := short(tmp)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.Listen("unix", filepath.Join(at, "s"))
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	made := filepath.Join(tmp, "s")
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// patience is how long Close waits for calls that are under way.
const patience = 10 * time.Second

// Close removes the socket, ends the API, and waits for calls that are under
// way; for a backup that takes longer the broker's Close waits. More calls do
// nothing but wait.
func (s *Server) Close() {
	s.once.Do(func() {
		if fi, err := os.Lstat(s.path); err == nil && os.SameFile(fi, s.file) {
			_ = os.Remove(s.path)
		}
		s.stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
		s.run.Wait()
	})
}

func (s *Server) state(w http.ResponseWriter, _ *http.Request) {
	st := s.b.Stats()
	dir, err := filepath.Abs(s.o.Dir)
	if err != nil {
		dir = s.o.Dir
	}
	answer(w, State{
		PID: os.Getpid(), Version: s.o.Version, Started: s.started.UTC().Truncate(time.Second), Data: dir, Durability: s.o.Durability,
		Sessions: st.Sessions, Connected: st.Connected, Queued: st.Queued, QueuedBytes: st.QueuedBytes, Retained: st.Retained, RetainedBytes: st.RetainedBytes,
		Store: st.Store, DiskFree: st.DiskFree,
	})
}

func (s *Server) queues(w http.ResponseWriter, r *http.Request) {
	limit, order := 20, broker.ByBytes
	if v := r.FormValue("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 10_000 {
			problem(w, http.StatusBadRequest, fmt.Errorf("limit: %q is not a number of 0 to 10000", v))
			return
		}
		limit = n
	}
	switch v := r.FormValue("sort"); v {
	case "", "bytes":
	case "messages":
		order = broker.ByMessages
	default:
		problem(w, http.StatusBadRequest, fmt.Errorf("sort: %q is none of bytes, messages", v))
		return
	}
	q := s.b.Queues(order, limit)
	a := Queues{Holders: q.Holders, Messages: q.Messages, Bytes: q.Bytes, Top: []Holder{}}
	for _, h := range q.Top {
		a.Top = append(a.Top, Holder(h))
	}
	answer(w, a)
}

func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	var q BackupRequest
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		problem(w, http.StatusBadRequest, fmt.Errorf("read request: %w", err))
		return
	}
	if !filepath.IsAbs(q.Dir) {
		problem(w, http.StatusBadRequest, errors.New("dir: wants an absolute path"))
		return
	}
	switch err := s.b.Backup(r.Context(), q.Dir); {
	case err == nil:
		answer(w, Backup(q))
	case errors.Is(err, disk.ErrNotEmpty), errors.Is(err, broker.ErrInMemory):
		problem(w, http.StatusConflict, err)
	default:
		problem(w, http.StatusInternalServerError, err)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // nobody to tell, if the client is gone
}

func problem(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(Problem{What: err.Error()})
}
