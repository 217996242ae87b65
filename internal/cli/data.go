package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"syscall"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
)

// otherData is what to try where the data directory cannot be used.
const otherData = "name another directory with --data, or keep nothing with --durability memory"

// promises says for each durability what an acknowledgement means: of QoS 1 and
// 2 messages for durable sessions, of retained ones, and of those sessions'
// subscriptions.
func promises() map[string]string {
	return map[string]string{
		"fsync":  "what is acknowledged is on the disk before: it survives a crash and a power cut",
		"async":  "what is acknowledged is on the disk within a second: a crash or a power cut can cost the last second",
		"memory": "what is acknowledged is in memory only: nothing survives the end of the program",
	}
}

// openData makes the data directory if it is to be used, and says which promise
// holds. What it finds in its place is told before anything is opened.
func openData(cfg config.Config, log *slog.Logger) error {
	if cfg.Durability == "memory" {
		log.Info("acknowledgements", "durability", cfg.Durability, "promise", promises()[cfg.Durability])
		return nil
	}
	made, err := makeData(cfg.Data)
	if err != nil {
		return withDataHint(fmt.Errorf("open data directory %s: %w", cfg.Data, err), cfg.Data)
	}
	log.Info("acknowledgements", "durability", cfg.Durability, "promise", promises()[cfg.Durability], "data", cfg.Data, "new", made)
	if fi, err := os.Stat(cfg.Data); err == nil && fi.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		log.Warn("the data directory is open to other users, and holds messages", "data", cfg.Data, "mode", fi.Mode().Perm().String(), "hint", "chmod 700 "+cfg.Data)
	}
	return nil
}

// errNoDirectory is what stands in the place of a data directory.
var errNoDirectory = errors.New("it is a file")

// makeData makes the directory, with mode 0700, if it is not there.
func makeData(dir string) (made bool, err error) {
	fi, err := os.Stat(dir)
	switch {
	case err == nil && fi.IsDir():
		return false, nil
	case err == nil:
		return false, errNoDirectory
	case !errors.Is(err, fs.ErrNotExist):
		return false, cause(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, cause(err)
	}
	return true, nil
}

// cause is what the system said, without the path that is told already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// withDataHint adds what to try to an error of the data directory.
func withDataHint(err error, dir string) error {
	hint := ""
	var used *disk.InUseError
	var format *disk.FormatError
	var damage *disk.DamageError
	switch {
	case errors.As(err, &used) && used.PID != 0:
		hint = fmt.Sprintf("stop process %d, or %s", used.PID, otherData)
	case errors.As(err, &used):
		hint = "stop the program that uses it, or " + otherData
	case errors.As(err, &format):
		hint = format.Hint()
	case errors.As(err, &damage):
		hint = damage.Hint()
	case errors.Is(err, errNoDirectory), errors.Is(err, syscall.ENOTDIR):
		hint = otherData
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		hint = "let this user write to " + dir + ", or " + otherData
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "make room on its disk, or " + otherData
	}
	if hint == "" {
		return err
	}
	return &hinted{err: err, hint: hint, code: exitFailure}
}
