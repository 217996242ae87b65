// Package diskfull runs the real program on a small real disk that fills up,
// and gets room again. It has tests only, and they are skipped where no file
// system can be mounted. Start with TestSmallDisk.
package diskfull
