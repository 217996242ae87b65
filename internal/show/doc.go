// Package show writes one received message as text: by mosquitto_sub's formats,
// as a line of JSON, or as a hex dump. It holds what is safe to print, and how
// wide it is; it reads no message, and does not write to anything but a buffer.
//
// Start with Printer in printer.go, then Format in format.go, JSON in json.go,
// and Clean in clean.go.
package show
