// Package metrics shows Prometheus how a receiver is doing. It is the only one
// that knows Prometheus.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walden-pg/walden/wal/stream"
)

// streamMetric is a number of a receiver's status. Positions are exact: WAL would
// have to exceed 8 PiB before a float is not.
type streamMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// value's ok is false where the number is not known.
	value func(*stream.Status) (v float64, ok bool)
}

// streamCollector asks for the status at each scrape: metrics cost nothing meanwhile,
// and all of one scrape are of one moment.
type streamCollector struct {
	status  func() stream.Status
	metrics []streamMetric
}

func newStreamCollector(cluster string, status func() stream.Status) *streamCollector {
	c := &streamCollector{status: status}
	labels := prometheus.Labels{"cluster": cluster}
	add := func(kind prometheus.ValueType, name, help string, value func(*stream.Status) (float64, bool)) {
		c.metrics = append(c.metrics, streamMetric{prometheus.NewDesc("walden_stream_"+name, help, nil, labels), kind, value})
	}
	gauge := func(name, help string, value func(*stream.Status) float64) {
		add(prometheus.GaugeValue, name, help, func(s *stream.Status) (float64, bool) { return value(s), true })
	}
	counter := func(name, help string, value func(*stream.Status) float64) {
		add(prometheus.CounterValue, name, help, func(s *stream.Status) (float64, bool) { return value(s), true })
	}
	// known leaves out what is negative.
	known := func(name, help string, value func(*stream.Status) int64) {
		add(prometheus.GaugeValue, name, help, func(s *stream.Status) (float64, bool) { v := value(s); return float64(v), v >= 0 })
	}

	gauge("connected", "1 while WAL is received from a server.", func(s *stream.Status) float64 { return number(s.Phase == stream.Streaming) })
	gauge("failing", "1 while the repository or the server does not work.", func(s *stream.Status) float64 { return number(s.Failure != "") })
	gauge("synchronous", "1 while commits on the server wait for this receiver.", func(s *stream.Status) float64 { return number(s.Waiting) })
	gauge("timeline", "Timeline of the positions; 0 before anything was received.", func(s *stream.Status) float64 { return float64(s.Timeline) })

	gauge("server_lsn", "How far the server's WAL reached when it was last heard, as a byte position.", func(s *stream.Status) float64 { return float64(s.ServerEnd) })
	gauge("received_lsn", "WAL before this byte position has been received.", func(s *stream.Status) float64 { return float64(s.Received) })
	gauge("durable_lsn", "WAL before this byte position is durable in the repository.", func(s *stream.Status) float64 { return float64(s.Durable) })
	gauge("acknowledged_lsn", "WAL before this byte position was reported to the server as flushed.", func(s *stream.Status) float64 { return float64(s.Acknowledged) })

	gauge("lag_bytes", "WAL of the server, as far as it was heard of, that is not in the repository.", func(s *stream.Status) float64 { return float64(s.LagBytes) })
	gauge("lag_seconds", "Since when the oldest WAL that is not in the repository has been known of; 0 if there is none.", func(s *stream.Status) float64 { return s.LagSeconds })
	gauge("pending_bytes", "WAL that was received and is not in the repository.", func(s *stream.Status) float64 { return float64(s.Pending) })
	gauge("spool_bytes", "What the spool, or the temporary files in its place, hold.", func(s *stream.Status) float64 { return float64(s.Buffered) })
	known("slot_lag_bytes", "WAL that the replication slot holds back on the server; absent if not known.", func(s *stream.Status) int64 { return s.SlotLag })
	known("slot_room_bytes", "WAL that the replication slot may still hold back under max_slot_wal_keep_size; absent without a limit.", func(s *stream.Status) int64 { return s.SlotRoom })

	counter("received_bytes_total", "WAL that was received.", func(s *stream.Status) float64 { return float64(s.ReceivedBytes) })
	counter("uploads_total", "Fragments that were uploaded.", func(s *stream.Status) float64 { return float64(s.Fragments) })
	counter("uploaded_bytes_total", "WAL that was uploaded in fragments, before compression.", func(s *stream.Status) float64 { return float64(s.FragmentBytes) })
	counter("segments_sealed_total", "Complete segments that were stored as one object.", func(s *stream.Status) float64 { return float64(s.Segments) })
	counter("upload_seconds_total", "Time that uploads took, added up.", func(s *stream.Status) float64 { return s.UploadSeconds })
	counter("retries_total", "Attempts that the repository failed.", func(s *stream.Status) float64 { return float64(s.Retries) })
	counter("connections_total", "Connections to servers.", func(s *stream.Status) float64 { return float64(s.Connections) })
	counter("gaps_total", "Stretches of WAL that are neither in the repository nor on the server any more.", func(s *stream.Status) float64 { return float64(len(s.Gaps)) })
	counter("findings_total", "Gaps, and whatever else was found to be bad.", func(s *stream.Status) float64 { return float64(s.Findings) })
	return c
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *streamCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *streamCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	for _, m := range c.metrics {
		if v, ok := m.value(&s); ok {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v)
		}
	}
}
