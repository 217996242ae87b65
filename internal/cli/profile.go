package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	httppprof "net/http/pprof"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"time"
)

// profile is a CPU profile that is being written; nil: none.
type profile struct{ file *os.File }

// startProfile begins the CPU profile that MYELIN_CPUPROFILE asks for.
func startProfile(env []string) (*profile, error) {
	name := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "MYELIN_CPUPROFILE="); ok {
			name = v
		}
	}
	if name == "" {
		return nil, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, &hinted{err: fmt.Errorf("create CPU profile: %w", err), hint: "MYELIN_CPUPROFILE names the file", code: exitFailure}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("start CPU profile: %w", err), f.Close())
	}
	return &profile{file: f}, nil
}

func (p *profile) stop() error {
	if p == nil {
		return nil
	}
	pprof.StopCPUProfile()
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("write CPU profile: %w", err)
	}
	return nil
}

// debugServer serves Go's profiles over HTTP; nil: it is off.
type debugServer struct {
	http http.Server
	wg   sync.WaitGroup
}

// startPprof serves /debug/pprof/ on addr, which is a loopback address: the
// configuration allows no other.
func startPprof(addr string, log *slog.Logger) (*debugServer, error) {
	if addr == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, withListenHint(fmt.Errorf("listen for pprof: %w", err))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", httppprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", httppprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", httppprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", httppprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", httppprof.Trace)
	d := &debugServer{http: http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
	d.wg.Go(func() {
		if err := d.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("pprof ended", "err", err)
		}
	})
	log.Info("serving profiles", "url", "http://"+ln.Addr().String()+"/debug/pprof/")
	return d, nil
}

// stop ends the server and what it is doing, and waits for it.
func (d *debugServer) stop() {
	if d == nil {
		return
	}
	_ = d.http.Close() // it only closes sockets that nobody needs any more
	d.wg.Wait()
}
