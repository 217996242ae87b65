package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myelin-mqtt/myelin/internal/jq"
	"github.com/myelin-mqtt/myelin/internal/show"
)

// printFlags say how a message that came is printed.
type printFlags struct {
	verbose, noNewline, json, hex, raw bool
	format, jq                         string
}

func (p *printFlags) register(c *cobra.Command) {
	g := newGroup(c, "Output")
	g.toggle(&p.verbose, "verbose", "v", "print the topic before the payload")
	g.text(&p.format, "format", "F", "print in this `format`: %t topic, %p payload, %j JSON, @H:@M:@S time; `myelin help format` has them all")
	g.toggle(&p.json, "json", "", "print each message as one JSON object on a line")
	g.text(&p.jq, "jq", "", "print what this jq `expression` makes of that object, in which a payload of JSON is parsed; text without quotes, unless with --json")
	g.toggle(&p.hex, "hex", "", "print the payload as a hex dump")
	g.toggle(&p.noNewline, "no-newline", "N", "print no end of line behind a message")
	g.toggle(&p.raw, "raw", "", "leave control characters as they are on a terminal, too")
	g.exclude("format", "json", "hex")
	g.exclude("format", "jq", "hex")
	g.exclude("verbose", "json")
	g.exclude("verbose", "hex")
	g.exclude("verbose", "format")
}

// printer is what the flags ask for. clean: the output is a terminal.
func (p *printFlags) printer(terminal bool) (show.Printer, *jq.Filter, error) {
	s := show.Printer{NoNewline: p.noNewline, Clean: terminal && !p.raw}
	var err error
	switch {
	case p.format != "":
		s.Style = show.Custom
		if s.Format, err = show.ParseFormat(p.format); err != nil {
			return s, nil, misuse("`myelin help format` lists what can stand behind %, @ and \\", "-F: %v", err)
		}
	case p.json:
		s.Style = show.JSON
	case p.hex:
		s.Style = show.Hex
	case p.verbose:
		s.Style = show.Verbose
	}
	if p.jq == "" {
		return s, nil, nil
	}
	filter, err := jq.Compile(p.jq)
	if err != nil {
		return s, nil, misuse("such as --jq '.payload.temperature', or 'select(.topic | endswith(\"/door\"))'; jqlang.org/manual has the language", "--jq: %v", err)
	}
	filter.Raw = !p.json
	return s, filter, nil
}

// terminal is standard output where a person looks at it. A dumb one cannot be
// drawn on, and counts as none.
func (f *clientFlags) terminal() (*os.File, bool) {
	file, ok := f.out.to.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd())) && f.env("TERM") != "dumb"
}

func (f *clientFlags) env(name string) string {
	value := ""
	for _, e := range f.process.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// formatTopic is a page of help.
func formatTopic() *cobra.Command {
	return &cobra.Command{Use: "format", Short: "What -F, --json and --jq print of a message", Long: formatText}
}

const formatText = `The text of -F is printed for each message, with these parts replaced. What a message has not is empty.

  %t  topic                      %p  payload
  %x  payload in hexadecimal     %X  the same in capitals
  %l  bytes of the payload       %q  quality of service
  %r  1 if it was retained       %m  packet identifier
  %j  JSON as mosquitto_sub has  %J  the same with a payload that is JSON
  %I  time, such as 2026-11-24T13:04:05+0100
  %U  seconds since 1970, with nanoseconds
  %%  a percent sign

  MQTT 5 properties:
  %C  content type               %D  correlation data
  %E  message expiry             %F  payload format indicator
  %P  user properties            %R  response topic
  %S  subscription identifiers   %A  topic alias, always empty

  @X  what strftime(3) has for %X, such as @Y-@m-@d @H:@M:@S
  @N  nanoseconds                @@  an at sign

  \n \r \t \v \a  as in C        \0  a zero byte
  \e  escape                     \\  a backslash

Between % and the letter may stand - (to the left), 0 (zeros before numbers), a least width, and behind a point a
largest: %-20.20t is a topic in exactly twenty characters.

With --json each message is an object on a line:

  {"time":"2026-11-24T12:04:05.123456789Z","topic":"a/b","qos":1,"retain":false,"dup":false,"id":7,"payload":"21.5"}

The time is when it came, in UTC. The id is there where the QoS is not 0. A payload that is not UTF-8 is there as
payload_base64. A message with properties has an object properties: payload_format, message_expiry, content_type,
response_topic, correlation_data (or correlation_data_base64), subscription_ids, and user, an array of objects with
key and value.

An expression of --jq gets that object, in which a payload that is JSON is what it says, not text. Each of its results is
printed on a line, text without quotes unless --json is there, too; where there are none, the message is not printed
and not counted. It has a second for a message, and reads neither files nor the environment.

On a terminal, control characters in what a message holds are shown as escapes, unless --raw is there; those of the
format work.`
