package transport

import "errors"

const bestDriver = "goroutine"

type epoll struct{}

func newReactor(*Server) (driver, error) {
	return nil, errors.New("the reactor is not built yet")
}
