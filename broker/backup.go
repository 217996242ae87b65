package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-mqtt/myelin/internal/store"
)

// ErrInMemory is why there is nothing to back up: the broker keeps everything
// in memory.
var ErrInMemory = errors.New("nothing is on the disk: the durability is memory")

// Backup copies the data directory into dir, while the broker runs. dir must not
// exist, or be empty, and is made with mode 0700; another broker can have it as
// its DataDir. It holds everything that was acknowledged before the call. When
// Backup returns without an error the copy is whole and on the disk, and else
// there is none. Files are linked where the file system can do that, so that a
// copy on the disk of the data directory takes little room at first. The errors
// are ErrInMemory, ErrClosed, and those of the disk; ctx is looked at before the
// work, which then goes to its end.
func (b *Broker) Backup(ctx context.Context, dir string) error {
	if b.isClosed() {
		return ErrClosed
	}
	s, ok := b.store.(store.Backuper)
	if !ok {
		return ErrInMemory
	}
	if err := s.Backup(ctx, dir); err != nil { // it may take long, and the store's Close waits for it
		return fmt.Errorf("back up: %w", err)
	}
	b.log.Info("backup written", "dir", dir)
	return nil
}
