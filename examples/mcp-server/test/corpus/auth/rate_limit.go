package auth

import (
	"sync"
	"time"
)

// Bucket lets a caller through a few times at once and then slowly.
type Bucket struct {
	mu     sync.Mutex
	tokens float64
	last   time.Time
	rate   float64 // tokens per second
	burst  float64
}

func NewBucket(rate, burst float64) *Bucket {
	return &Bucket{tokens: burst, last: time.Now(), rate: rate, burst: burst}
}

// Allow reports whether one more attempt may be made now.
func (b *Bucket) Allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
