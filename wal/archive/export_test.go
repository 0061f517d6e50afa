package archive

import "time"

// LookAgainAfter shortens the pauses of Fetch.
func (a *Archive) LookAgainAfter(d time.Duration) { a.pause = d }
