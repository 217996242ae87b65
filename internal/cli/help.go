package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// clientUsage is the help of a client command: its flags by group, for there
// are many.
func clientUsage(c *cobra.Command) error {
	w := c.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	titles, of := groups(c)
	for _, t := range titles {
		if text := of[t].FlagUsagesWrapped(120); text != "" {
			fmt.Fprintf(w, "\n%s:\n%s", t, text)
		}
	}
	_, err := fmt.Fprintf(w, "\n`myelin help exit-codes` lists the exit codes, `myelin help client-config` tells how the environment\n"+
		"and a file set flags: -q is qos in the file, and MYELIN_%s_QOS or MYELIN_QOS in the environment.\n", strings.ToUpper(c.Name()))
	return err
}

// mosquittoOnly is what to try instead of a flag that only Mosquitto's clients
// have; "": it is none.
func mosquittoOnly(flag string) string {
	switch flag {
	case "tls-use-os-certs":
		return "--tls uses the system's authorities"
	case "nodelay":
		return "leave it out: small packets are never held back"
	case "quiet":
		return "2>/dev/null leaves out what is on standard error"
	case "ciphers", "tls-engine", "tls-engine-kpass-sha1", "keyform":
		return "leave it out: TLS has safe ciphers, and keys in PEM or PKCS#12 files"
	case "psk", "psk-identity":
		return "use certificates: --cafile, --cert and --key, or --p12"
	case "proxy":
		return "there is no proxy; --ws goes where only HTTP does"
	}
	return ""
}

// codesTopic is a page of help.
func codesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Exit codes of the client commands. Where Mosquitto's clients have a code for a class of failure it is the same.\n\n")
	for _, e := range exitCodes() {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.what)
	}
	b.WriteString("\nAn error is one line that says what, and mostly one that says what to try.\n`myelin serve`, `config` and `store` end with 0, 1 or 2.")
	return &cobra.Command{Use: "exit-codes", Short: "The exit codes of the client commands", Long: b.String()}
}

// settingsTopic is a page of help.
func settingsTopic() *cobra.Command {
	return &cobra.Command{Use: "client-config", Short: "How the environment and a file set flags of the client commands", Long: settingsText}
}

const settingsText = `Every flag of a client command can also be set in the environment and in a file.

In the environment its name is that of the flag in capitals, with _ for -: MYELIN_PUB_QOS is --qos of
` + "`myelin pub`" + `, and MYELIN_QOS that of all commands that have the flag. A flag that can be given several times
has one value a line. An empty value counts as none.

The file is YAML, with a section for each command and the section all for all of them. Its keys are the flags
with _ for -; a flag that can be given several times has a list:

  all:
    host: broker.example
    port: 8883
    cafile: /etc/ssl/broker.pem
    username: kitchen
    password_file: /etc/myelin/password
  pub:
    qos: 1
    user_property: [source=kitchen, unit=celsius]

It is the file of --config, of MYELIN_CLIENT_CONFIG, or client.yaml in the folder myelin of $XDG_CONFIG_HOME
(else ~/.config) if it is there. Everything that is wrong in it is told at once, and ends the command with 2.

A flag of the command line beats MYELIN_PUB_QOS, that MYELIN_QOS, that the section pub, and that the section all.
Settings that exclude one that is stronger are left alone: with -L on the command line, a host in the file is.

Secrets are not taken from the command line, where every user of the machine can see them. A password comes from
--password-file, from MYELIN_PASSWORD, or from password in the file; the password of a PKCS#12 file from
--key-password-file, MYELIN_KEY_PASSWORD, or key_password. A URL may have a password in the environment (MYELIN_URL)
and in the file only.`
