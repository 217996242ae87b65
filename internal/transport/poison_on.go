//go:build poison

package transport

const poison = true
