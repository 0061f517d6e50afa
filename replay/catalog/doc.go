// Package catalog lists what a repository holds of one incarnation of a
// cluster: its backups, its WAL by timeline, the holes in it, and the windows
// of moments that can be restored.
//
// A Snapshot is plain data. Reader.Load takes the overview from listings,
// manifests and history files alone, without reading a segment. What a plan
// must know of segments beyond that they exist is loaded on request: the pure
// functions of replay/plan, and Windows here, tell what they lack (Needs), and
// Reader.Fill gets it.
package catalog
