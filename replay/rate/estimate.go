package rate

import (
	"fmt"
	"slices"
	"time"

	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
)

// What is assumed where nothing has been measured: deliberately on the slow side of
// what a disk and a gigabit network do. One process replays WAL.
const (
	AssumedDownload = 50 << 20 // bytes a second
	AssumedReplay   = 20 << 20 // bytes a second
)

// Estimate says how long a plan will take, from the measurements there are. Without one
// of a download, the speed at which the newest backup of some size was stored serves; else
// what is assumed. Basis says so.
func Estimate(p *plan.Plan, list []Measurement, backups []catalog.Backup) *plan.Estimate {
	download, downloadBasis := downloadRate(list, backups)
	replay, replayBasis := median(list, func(m Measurement) (int64, float64) { return m.ReplayBytes, m.ReplaySeconds })
	if replay == 0 {
		replay, replayBasis = AssumedReplay, "assumed: no restore --start of this cluster has been measured yet"
	}
	wal := float64(p.Stop.End - p.Backup.StartLSN)
	return &plan.Estimate{
		DownloadSeconds: float64(p.Backup.StoredBytes) / download, DownloadRate: download, DownloadBasis: downloadBasis,
		ReplaySeconds: wal / replay, ReplayRate: replay, ReplayBasis: replayBasis,
	}
}

func downloadRate(list []Measurement, backups []catalog.Backup) (rate float64, basis string) {
	rate, basis = median(list, func(m Measurement) (int64, float64) { return m.DownloadBytes, m.DownloadSeconds })
	if rate > 0 {
		return rate, basis
	}
	for _, b := range slices.Backward(backups) {
		// The server's part takes its time too: a download is seldom slower.
		if took := b.StopTime.Sub(b.StartTime); b.StoredBytes >= Least && took >= time.Second {
			return float64(b.StoredBytes) / took.Seconds(), "as fast as backup " + b.ID + " was stored: no restore of this cluster has been measured yet"
		}
	}
	return AssumedDownload, "assumed: neither a restore nor a backup of some size has been measured yet"
}

// median is that of the rates that part tells of, in bytes a second; 0: there are none.
func median(list []Measurement, part func(Measurement) (bytes int64, seconds float64)) (rate float64, basis string) {
	var rates []float64
	var last Measurement
	for _, m := range list {
		if bytes, seconds := part(m); seconds > 0 {
			rates = append(rates, float64(bytes)/seconds)
			last = m
		}
	}
	if len(rates) == 0 {
		return 0, ""
	}
	slices.Sort(rates)
	basis = "measured when " + last.Host + " restored on " + last.Time.Format("2006-01-02")
	if len(rates) > 1 {
		basis = fmt.Sprintf("the median of %d restores, the last by %s on %s", len(rates), last.Host, last.Time.Format("2006-01-02"))
	}
	return rates[len(rates)/2], basis
}
