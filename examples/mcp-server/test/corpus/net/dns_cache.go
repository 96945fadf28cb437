package net

import (
	"context"
	"net"
	"sync"
	"time"
)

type answer struct {
	addresses []string
	until     time.Time
}

// Resolver remembers what a host name stands for, for a minute.
type Resolver struct {
	mu    sync.Mutex
	known map[string]answer
}

func (r *Resolver) Lookup(ctx context.Context, host string) ([]string, error) {
	r.mu.Lock()
	if a, ok := r.known[host]; ok && time.Now().Before(a.until) {
		r.mu.Unlock()
		return a.addresses, nil
	}
	r.mu.Unlock()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[host] = answer{addresses, time.Now().Add(time.Minute)}
	return addresses, nil
}
