package acl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// maxFile bounds what is read of a file.
const maxFile = 16 << 20

// Formats of files.
const (
	Auto      = "auto" // YAML where the name ends in .yaml or .yml, else Mosquitto
	YAML      = "yaml"
	Mosquitto = "mosquitto"
)

// Load reads a file of rules. Everything that is wrong with it is reported at
// once.
func Load(name, format string) (*Policy, config.Faults) {
	text, err := read(name)
	if err != nil {
		return nil, config.Faults{{Where: name, What: "cannot read the file: " + err.Error(), Hint: hintOf(err)}}
	}
	return Parse(name, format, text)
}

// Parse is Load for what was read already. name is for messages, and for Auto.
func Parse(name, format string, text []byte) (*Policy, config.Faults) {
	if format == Auto {
		format = Mosquitto
		switch strings.ToLower(filepath.Ext(name)) {
		case ".yaml", ".yml":
			format = YAML
		}
	}
	if format == YAML {
		return parseYAML(name, text)
	}
	return parseMosquitto(name, text)
}

var errTooLarge = fmt.Errorf("larger than %d MiB", maxFile>>20)

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, cause(err)
	case len(text) > maxFile:
		return nil, errTooLarge
	}
	return text, nil
}

// cause is what the system said, without the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func hintOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "let the user that runs myelin read it"
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; a relative one in the configuration file counts from that file's folder"
	}
	return ""
}
