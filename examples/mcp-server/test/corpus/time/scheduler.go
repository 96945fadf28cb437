package clock

import (
	"context"
	"log"
	"time"
)

// Every runs a task at a fixed interval until the context ends; a run that takes too long makes the next one late and never two at once.
func Every(ctx context.Context, interval time.Duration, task func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := task(ctx); err != nil {
				log.Printf("periodic task: %v", err)
			}
		}
	}
}
